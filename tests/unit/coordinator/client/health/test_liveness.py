"""States of agents by the events of their connections; no socket."""

from __future__ import annotations

import pytest
from peers import hello_reply

from siftmoe.coordinator.client.health.liveness import CLASSIFY_S, LinkEvent, Liveness
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.models.shape import ModelShape

SHAPE = ModelShape(
    num_layers=1, num_experts=2, top_k=1, hidden_size=8, intermediate_size=8, activation="silu"
)


def one_agent() -> Fleet:
    agents = [AgentEntry(name="a0", address="tcp://10.0.0.1:1")]
    return Fleet(agents, shape=SHAPE, model_hash="m" * 64)


def observed(*events: LinkEvent) -> tuple[AgentState, str, bool]:
    """State, reason and whether it is settled, after an agent was ready and then these events."""
    fleet = one_agent()
    liveness = Liveness(fleet)
    assert liveness.observe(0, LinkEvent.GREETED, now_s=0.0)
    fleet.welcome(0, hello_reply(1), now_s=0.0)
    for event in events:
        liveness.observe(0, event, now_s=1.0)
    return fleet[0].state, fleet[0].reason, liveness.is_settled(0)


LOST, FAILED, ACCEPTED = LinkEvent.LOST, LinkEvent.FAILED, LinkEvent.ACCEPTED


@pytest.mark.parametrize(
    ("events", "state", "reason", "settled"),
    [
        ([LOST], AgentState.DEAD, "broke", False),
        ([LOST, FAILED], AgentState.DEAD, "the process is gone", True),
        ([LOST, FAILED, FAILED], AgentState.DEAD, "the process is gone", True),
        ([LOST, ACCEPTED], AgentState.WEDGED, "its port is open", False),
        ([LOST, ACCEPTED, LOST], AgentState.DEAD, "broke", False),
        ([LOST, ACCEPTED, LOST, FAILED], AgentState.DEAD, "the process is gone", True),
        ([LOST, ACCEPTED, FAILED], AgentState.DEAD, "the process is gone", True),
        ([LOST, FAILED, ACCEPTED], AgentState.DEAD, "the process is gone", True),
        ([LOST, LinkEvent.GREETED], AgentState.CONNECTING, "asked who it is", True),
        ([LOST, LinkEvent.STRANGE], AgentState.REFUSED, "another protocol", True),
    ],
)
def test_what_follows_a_break_tells_dead_from_wedged(
    events: list[LinkEvent], state: AgentState, reason: str, settled: bool
) -> None:
    found = observed(*events)
    assert found[0] is state
    assert reason in found[1]
    assert found[2] is settled


def test_a_break_without_a_cause_is_given_up_on() -> None:
    fleet = one_agent()
    liveness = Liveness(fleet)
    liveness.observe(0, LinkEvent.LOST, now_s=1.0)
    liveness.settle(now_s=1.0 + CLASSIFY_S / 2)
    assert not liveness.settled
    liveness.settle(now_s=1.0 + 2 * CLASSIFY_S)
    assert liveness.settled
    assert "host or network is gone" in fleet[0].reason


def test_an_agent_that_answers_a_hello_meanwhile_is_not_given_up_on() -> None:
    """Its heartbeats' connection broke; its request connection carried the answer."""
    fleet = one_agent()
    liveness = Liveness(fleet)
    liveness.observe(0, LOST, now_s=1.0)
    fleet.welcome(0, hello_reply(1), now_s=1.001)
    liveness.settle(now_s=1.0 + 2 * CLASSIFY_S)
    assert fleet[0].state is AgentState.READY
    assert liveness.settled


def test_an_accepted_connection_has_to_last_before_an_agent_counts_as_wedged() -> None:
    fleet = one_agent()
    liveness = Liveness(fleet)
    liveness.observe(0, LinkEvent.LOST, now_s=1.0)
    liveness.observe(0, LinkEvent.ACCEPTED, now_s=1.0 + CLASSIFY_S / 2)
    liveness.settle(now_s=1.0 + 1.25 * CLASSIFY_S)
    assert not liveness.settled
    liveness.settle(now_s=1.0 + 2 * CLASSIFY_S)
    assert liveness.settled
    assert fleet[0].state is AgentState.WEDGED
    assert "no sign of life for 300 ms although its port is open" in fleet[0].reason


def test_states_before_the_first_greeting_say_what_is_waited_for() -> None:
    fleet = one_agent()
    liveness = Liveness(fleet)
    assert not liveness.observe(0, LinkEvent.FAILED, now_s=1.0)
    assert fleet[0].reason == "nothing listens there yet"
    liveness.observe(0, LinkEvent.ACCEPTED, now_s=1.0)
    assert fleet[0].reason == "its port is open, but it has not greeted"
    assert fleet[0].state is AgentState.CONNECTING
