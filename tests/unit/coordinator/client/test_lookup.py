"""Host names of agents: without an address at first, with one later; the others are not delayed."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from siftmoe.coordinator.client import lookup
from siftmoe.coordinator.client.lookup import Lookups

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
