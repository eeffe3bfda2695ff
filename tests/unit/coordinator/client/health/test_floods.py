"""Agents that send what nobody asked for are closed; late replies are no flood."""

from __future__ import annotations

import time

from patience import scaled_s
from peers import Peer

from siftmoe.agent.errors import ErrorCode
from siftmoe.agent.wire.protocol import Failure, Stats, StatsReply
from siftmoe.coordinator.client.health.floods import FLOODS, MOST_UNASKED, Floods
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.models.shape import ModelShape

SHAPE = ModelShape(
    num_layers=1, num_experts=2, top_k=1, hidden_size=8, intermediate_size=8, activation="silu"
)


def test_a_flood_is_many_unasked_messages_in_a_row() -> None:
    floods = Floods()
    assert not any(floods.unasked(0) for _ in range(MOST_UNASKED - 1))
    floods.asked(0)
    assert not any(floods.unasked(0) for _ in range(MOST_UNASKED - 1))
    assert not floods.unasked(1)
    assert floods.unasked(0)
    assert not floods.unasked(0)


def test_an_agent_that_floods_is_refused_and_the_others_are_served() -> None:
    def answer(request: Stats) -> list[StatsReply]:
        return [StatsReply(id=request.id, counters={})]

    def flood(request: Stats) -> list[StatsReply | Failure]:
        unasked = Failure(id=10**9, code=ErrorCode.BUSY, message="x")
        return [*answer(request), *[unasked] * (MOST_UNASKED + 10)]

    peers = [Peer(flood), Peer(answer)]
    try:
        entries = [AgentEntry(name=f"a{n}", address=p.address) for n, p in enumerate(peers)]
        with Client(Fleet(entries, shape=SHAPE, model_hash="m" * 64)) as client:
            client.connect(timeout_s=20.0)
            client.exchange({0: Stats(id=client.next_id())}, deadline_s=20.0).require()
            end_s = time.monotonic() + scaled_s(20.0)
            while client.fleet[0].state is not AgentState.REFUSED:
                assert time.monotonic() < end_s
                client.exchange({1: Stats(id=client.next_id())}, deadline_s=20.0).require()
            assert client.fleet[0].reason == FLOODS
            assert client.discarded == MOST_UNASKED
            assert client.wait_somebody(timeout_s=20.0)
            while client.fleet[0].state is not AgentState.READY:  # tried again, after its pause
                assert time.monotonic() < end_s
                client.exchange({1: Stats(id=client.next_id())}, deadline_s=20.0).require()
    finally:
        for peer in peers:
            peer.close()
