"""Helpers whose results are wrong: found, left out for the run, booked; the layer is served anew.

Starting point: the modes of an agent that passes a true agent's words on but for its results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from layer_bench import HIDDEN, WHOLE, Bench, answer, benches

from siftmoe.agent.wire.protocol import Result
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.coordinator.ledger.store import FaultRow
from siftmoe.models.errors import BundleCorrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

#: What a liar makes of a true result; the last two are found by a second computation alone.
LIES: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "big1000": lambda y: 1000.0 * y,
    "zeros": np.zeros_like,
    "neg": lambda y: -y,
    "replay": lambda y: np.roll(y, 1, axis=1),
}
#: Every expert on three helpers.
THREE = [((0, 0), (0, 1), (0, 2), (0, 3))] * 3 + [((0, 0),)]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    with benches(tmp_path) as start:
        yield start


def saying(lie: Any) -> Any:
    """A helper that answers with what ``lie`` makes of the truth, and owns up to no time."""

    def answers(request: Any) -> list[Any]:
        (true,) = answer(request)
        return [Result(id=request.id, output=lie(true.output), compute_s=0.0, queue_s=0.0)]

    return answers


def user_device(_layer: int, hidden: Any, pairs: Any, weights: Any) -> Any:
    output = np.zeros(hidden.shape, np.float32)
    for (row, expert), weight in zip(pairs, weights, strict=True):
        output[row] += weight * (expert + 1) * hidden[row]
    return output


def states(bench: Bench) -> list[AgentState]:
    return [agent.state for agent in bench.client.fleet]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_a_result_that_is_not_finite_fails_its_helper_in_this_layer(
    start: Any, value: float
) -> None:
    bench = start(saying(lambda y: np.full_like(y, value)))
    np.testing.assert_allclose(bench.serve(), WHOLE, rtol=1e-5)
    (fault,) = bench.ledger.rows(FaultRow)
    assert (fault.agent, fault.kind) == ("a0", "AgentRefused")
    assert "agent 'a0' answered with" in fault.reason
    assert bench.selection().faulted == 0
    assert states(bench)[0] is AgentState.RESTING


@pytest.mark.parametrize("lie", ["big1000", "zeros"])
def test_of_two_hosts_that_differ_the_one_with_an_unusual_norm_is_left_out(
    start: Any, lie: str
) -> None:
    bench = start(saying(LIES[lie]), check_one_in=1)
    np.testing.assert_allclose(bench.serve(), WHOLE, rtol=1e-5)
    (fault,) = bench.ledger.rows(FaultRow)
    assert (fault.agent, fault.kind) == ("a0", "AgentDistrusted")
    assert "'a1' computes another output" in fault.reason
    assert states(bench)[:2] == [AgentState.DISTRUSTED, AgentState.READY]
    assert bench.selection().faulted == 0


@pytest.mark.parametrize("lie", LIES)
def test_a_liar_among_three_hosts_is_outvoted(start: Any, lie: str) -> None:
    bench = start(saying(LIES[lie]), check_one_in=1, residents=THREE)
    np.testing.assert_allclose(bench.serve(), WHOLE, rtol=1e-5)
    assert {fault.agent for fault in bench.ledger.rows(FaultRow)} == {"a0"}
    assert states(bench) == [AgentState.DISTRUSTED, *[AgentState.READY] * 3]


@pytest.mark.parametrize("lie", LIES)
def test_the_users_device_is_believed(start: Any, lie: str) -> None:
    bench = start(saying(LIES[lie]), check_one_in=1, reference=user_device)
    np.testing.assert_allclose(bench.serve(), WHOLE, rtol=1e-5)
    (fault,) = bench.ledger.rows(FaultRow)
    assert (fault.agent, fault.kind) == ("a0", "AgentDistrusted")
    assert "the user's device computes another output" in fault.reason


def test_where_nothing_tells_two_hosts_apart_both_are_left_out(start: Any) -> None:
    bench = start(saying(LIES["neg"]), check_one_in=1)
    output = bench.serve()
    assert states(bench)[:2] == [AgentState.DISTRUSTED] * 2
    assert bench.selection().faulted == 5  # slots of experts 0 and 1, which nobody else hosts
    only_others = np.where(np.abs(output - WHOLE).max(axis=1) < 1e-4)[0]
    np.testing.assert_array_equal(only_others, [3])


@pytest.mark.parametrize("lie", ["big1000", "zeros"])
def test_a_liar_without_a_replica_is_found_by_its_norms(start: Any, lie: str) -> None:
    bench = start(saying(LIES[lie]))
    for _ in range(8):
        assert states(bench)[0] is AgentState.READY
        output = bench.serve()
    np.testing.assert_allclose(output, WHOLE, rtol=1e-5)
    (fault,) = bench.ledger.rows(FaultRow)
    assert "the norm of the profile's" in fault.reason
    np.testing.assert_allclose(bench.serve(), WHOLE, rtol=1e-5)


def test_a_distrusted_helper_stays_out_whatever_its_connection_does(start: Any) -> None:
    bench = start(saying(LIES["big1000"]), check_one_in=1)
    bench.serve()
    hello = bench.client.fleet[0].hello
    assert not bench.client.fleet.welcome(0, hello, now_s=1e9)
    bench.client.fleet.set_state(0, AgentState.DEAD, reason="it was killed", now_s=1e9)
    assert states(bench)[0] is AgentState.DISTRUSTED
    asked = len(bench.peers[0].requests)
    bench.serve()
    assert len(bench.peers[0].requests) == asked
    assert "a0: distrusted: agent 'a0' is distrusted" in bench.selection().excluded


def test_true_helpers_are_never_distrusted_and_checks_change_nothing(start: Any) -> None:
    bench = start(check_one_in=1)
    for _ in range(20):
        np.testing.assert_allclose(bench.serve(), WHOLE, rtol=1e-5)
    assert set(states(bench)) == {AgentState.READY}
    assert list(bench.ledger.rows(FaultRow)) == []
    rows = sum(len(request.hidden) for peer in bench.peers for request in peer.requests)
    assert rows == 2 * 20 * 8  # eight vectors for five tokens, and each of them again


def test_times_that_exceed_the_round_trip_are_not_believed(start: Any) -> None:
    def boasts(request: Any) -> list[Any]:
        (true,) = answer(request)
        return [Result(id=request.id, output=true.output, compute_s=1e9, queue_s=1e9)]

    bench = start(boasts, boasts, boasts, boasts)
    np.testing.assert_allclose(bench.serve(), WHOLE, rtol=1e-5)
    total = bench.ledger.summary()
    assert (total.latency.compute_s, total.latency.queue_s) == (0.0, 0.0)
    assert len(HIDDEN) == total.tokens


def test_a_user_device_that_cannot_compute_leaves_it_to_replicas(start: Any) -> None:
    def damaged(*_: Any) -> Any:
        raise BundleCorrupt("expert 0 of layer 0 has another hash")

    bench = start(saying(LIES["zeros"]), check_one_in=1, reference=damaged)
    bench.serve()
    np.testing.assert_allclose(bench.serve(), WHOLE, rtol=1e-5)
    assert states(bench)[:2] == [AgentState.DISTRUSTED, AgentState.READY]
