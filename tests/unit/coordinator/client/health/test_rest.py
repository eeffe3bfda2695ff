from __future__ import annotations

import pytest
from peers import Peer

from siftmoe.coordinator.client.health.rest import LONGEST_S, REST_S, Rests
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.errors import AgentUnreachable
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.models.shape import ModelShape

SHAPE = ModelShape(
    num_layers=1, num_experts=2, top_k=1, hidden_size=8, intermediate_size=8, activation="silu"
)


def test_a_pause_doubles_until_a_result_comes() -> None:
    rests, now_s = Rests(), 100.0
    for pause_s in (REST_S, 2 * REST_S, 4 * REST_S):
        rests.begin(3, now_s=now_s)
        assert rests.patience_s(1e9, now_s=now_s) == pytest.approx(pause_s)
        assert rests.due(now_s=now_s + 0.99 * pause_s) == []
        now_s += 1.01 * pause_s
        assert rests.due(now_s=now_s) == [3]
        assert rests.due(now_s=now_s) == []
    rests.served(3)
    rests.begin(3, now_s=now_s)
    assert rests.due(now_s=now_s + 1.01 * REST_S) == [3]


def test_no_pause_is_longer_than_a_minute() -> None:
    rests = Rests()
    for _ in range(20):
        rests.begin(0, now_s=0.0)
    assert rests.patience_s(1e9, now_s=0.0) == LONGEST_S


def test_who_owes_an_answer_is_asked_when_it_has_come() -> None:
    rests = Rests()
    rests.begin(1, now_s=0.0, owes=77)
    rests.answered(76, now_s=1.0)
    assert rests.due(now_s=1.0) == []
    rests.answered(77, now_s=2.0)
    assert rests.due(now_s=2.0) == [1]


def test_who_owes_an_answer_that_was_lost_is_asked_in_the_end() -> None:
    rests = Rests()
    rests.begin(1, now_s=0.0, owes=77)
    assert rests.due(now_s=0.99 * LONGEST_S) == []
    assert rests.due(now_s=1.01 * LONGEST_S) == [1]


def test_another_connection_owes_nothing() -> None:
    rests = Rests()
    rests.begin(1, now_s=0.0, owes=77)
    rests.end(1)
    rests.answered(77, now_s=0.1)
    assert rests.due(now_s=1e9) == []
    assert rests.patience_s(5.0, now_s=0.0) == 5.0


def test_a_tolerant_coordinator_begins_without_who_is_missing() -> None:
    peer = Peer()
    try:
        entries = [
            AgentEntry(name="here", address=peer.address),
            AgentEntry(name="gone", address="tcp://127.0.0.1:1"),
        ]
        fleet = Fleet(entries, shape=SHAPE, model_hash="m" * 64)
        with Client(fleet) as client:
            assert client.wait_somebody(timeout_s=20.0)
            with pytest.raises(AgentUnreachable, match="'gone'"):
                client.connect(timeout_s=0.1)
            (missing,) = client.connect(timeout_s=0.1, require_all=False)
            assert missing.name == "gone"
            assert fleet.ready().tolist() == [True, False]
            client.rest(0, reason="it gave no result")
            assert fleet[0].state is AgentState.RESTING
            assert fleet.excluded().startswith("here: resting: it gave no result; gone: ")
            with pytest.raises(AgentUnreachable, match=r"'here' .* is resting: it gave no result"):
                client.connect(timeout_s=0.1, require_all=False)
            assert client.wait_somebody(timeout_s=20.0)  # asked again after its pause
    finally:
        peer.close()
