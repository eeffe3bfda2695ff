"""Host names of agents: without an address at first, with one later; the others are not delayed."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest
from peers import Peer

from siftmoe.agent.wire.protocol import Stats, StatsReply
from siftmoe.coordinator.client import lookup
from siftmoe.coordinator.client.lookup import Lookups
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.client.security import ClientSecurity
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.models.shape import ModelShape

ADDRESSES = {0: "tcp://127.0.0.1:5555", 1: "tcp://board.local:5555"}


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names that have an address; others have none."""
    names: set[str] = set()
    real = socket.getaddrinfo

    def look_up(host: str, *arguments: Any, **options: Any) -> Any:
        if host.endswith(".local"):
            if host not in names:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            host = "127.0.0.9"
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(lookup, "AGAIN_S", 0.01)
    monkeypatch.setattr(lookup, "FIRST_S", 0.2)
    return names


def test_a_name_is_looked_up_until_it_has_an_address(known: set[str]) -> None:
    lookups = Lookups(ADDRESSES)
    try:
        assert lookups.first() == {0: ADDRESSES[0]}
        assert list(lookups.pending()) == [1]
        assert "cannot be looked up" in lookups.pending()[1]
        known.add("board.local")
        end_s = time.monotonic() + 20.0
        while not (found := lookups.take()):
            assert time.monotonic() < end_s
            time.sleep(0.01)
        assert found == {1: "tcp://127.0.0.9:5555"}
        assert lookups.pending() == {}
    finally:
        lookups.close()


SHAPE = ModelShape(
    num_layers=1, num_experts=2, top_k=1, hidden_size=8, intermediate_size=8, activation="silu"
)


def test_an_agent_whose_name_comes_late_serves_with_heartbeats(known: set[str]) -> None:
    peer = Peer(lambda request: [StatsReply(id=request.id, counters={})], host="127.0.0.9")
    port = peer.address.rpartition(":")[2]
    entry = AgentEntry(name="board", address=f"tcp://board.local:{port}")
    try:
        fleet = Fleet([entry], shape=SHAPE, model_hash="m" * 64)
        with Client(fleet, security=ClientSecurity(insecure=True)) as client:
            assert not client.wait_ready(timeout_s=0.05)
            known.add("board.local")
            assert client.wait_ready(timeout_s=20.0)
            exchange = client.exchange({0: Stats(id=client.next_id())}, deadline_s=20.0)
            assert 0 in exchange.replies
    finally:
        peer.close()
