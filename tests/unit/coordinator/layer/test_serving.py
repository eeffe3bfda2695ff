"""A layer whose helpers fail: on real sockets, with peers that misbehave as each test asks."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from layer_bench import (
    AIR,
    GATES,
    HIDDEN,
    LINKS,
    ROUTED,
    SKIP,
    STAND_IN,
    WHOLE,
    Bench,
    answer,
    benches,
    busy,
    garbage,
    out_of_memory,
    silent,
    tables,
    wrong_shape,
)

from siftmoe.coordinator.air.interface import AirInterface
from siftmoe.coordinator.air.slotted import SlottedAir
from siftmoe.coordinator.errors import AgentUnreachable
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.coordinator.ledger.store import (
    FaultRow,
    TransmissionRow,
)
from siftmoe.coordinator.selection.problem import BudgetKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    with benches(tmp_path) as start:
        yield start


def test_without_faults_nothing_is_asked_twice(start: Any) -> None:
    bench = start()
    np.testing.assert_allclose(bench.serve(), WHOLE, rtol=1e-5)
    assert [len(peer.requests) for peer in bench.peers] == [1, 0, 1, 0]
    assert bench.selection().faulted == 0
    assert list(bench.ledger.rows(FaultRow)) == []


@pytest.mark.parametrize(
    ("how", "kind", "reason"),
    [
        (busy, "AgentRefused", "refused (busy): 256 requests are waiting"),
        (out_of_memory, "AgentRefused", "refused (out_of_memory): no 3 GB left"),
        (garbage, "AgentRefused", "answered with what is no message"),
        (wrong_shape, "AgentRefused", "answered with an output of shape"),
    ],
)
def test_who_refuses_is_replaced_in_the_same_layer(
    start: Any, how: Any, kind: str, reason: str
) -> None:
    bench = start(how)
    np.testing.assert_allclose(bench.serve(), WHOLE, rtol=1e-5)
    assert [len(peer.requests) for peer in bench.peers] == [1, 1, 1, 0]  # a2's result counts
    (fault,) = bench.ledger.rows(FaultRow)
    assert (fault.agent, fault.kind, fault.slots) == ("a0", kind, 5)
    assert reason in fault.reason
    assert fault.waited_s > 0.0
    row = bench.selection()
    assert (row.kept, row.skipped, row.faulted, row.status) == (10, 0, 0, "feasible")
    assert row.excluded.startswith("a0: resting: ")
    assert row.deviation_bound_max == 0.0
    # What was sent to a0 is spent; nothing came back from it.
    assert bench.bursts("up") == [("a0", 4, 4), ("a2", 4, 0), ("a1", 4, 0)]
    assert bench.bursts("down") == [("a2", 4, 0), ("a1", 4, 0)]
    booked = sum(r.energy_j for r in bench.ledger.rows(TransmissionRow) if r.direction == "up")
    # both directions count, and are alike here; that a0's answer would not come was not foreseen
    assert row.predicted_energy_j == pytest.approx(2.0 * booked)


def fast_fading(outage_price: float, *, seed: int = 1) -> SlottedAir:
    return SlottedAir.over(
        AIR,
        slots=2,
        outage_price=outage_price,
        mean=LINKS.states(0.0),
        rng=np.random.default_rng(seed),
    )


@pytest.mark.parametrize(
    "air", [replace(AIR, deadline_shared=True), replace(AIR, shared_window=False), fast_fading(1e6)]
)
def test_whatever_the_air_a_fault_is_made_good(start: Any, air: AirInterface) -> None:
    bench = start(busy, air=air)
    np.testing.assert_allclose(bench.serve(), WHOLE, rtol=1e-5)
    up = bench.bursts("up")
    assert up[0] == ("a0", 4, 4)
    assert not any(missed for _, _, missed in up[1:])
    assert sorted(bench.bursts("down")) == sorted(up[1:])


def test_what_the_air_lost_is_not_sent_again_for_a_fault(start: Any) -> None:
    """So little is an undelivered token worth here that one slot of ten arrives, at a2."""
    bench = start(None, None, busy, air=fast_fading(0.8, seed=3))
    bench.serve()
    row = bench.selection()
    (fault,) = bench.ledger.rows(FaultRow)
    assert (fault.agent, fault.slots) == ("a2", 1)
    assert [(agent, tokens) for agent, tokens, _ in bench.bursts("up")] == [
        ("a0", 4),
        ("a2", 4),
        ("a3", 1),
    ]
    assert row.kept + row.skipped == 10
    assert 9 <= row.lost <= row.skipped


def test_who_refused_comes_back_by_itself(start: Any) -> None:
    answers = iter([busy])
    bench = start(lambda request: next(answers, answer)(request))
    bench.serve()
    assert bench.client.fleet[0].state is AgentState.RESTING
    bench.serve()
    assert [len(peer.requests) for peer in bench.peers] == [1, 2, 2, 0]
    assert bench.client.wait_ready(timeout_s=20.0)
    np.testing.assert_allclose(bench.serve(), WHOLE, rtol=1e-5)
    assert [len(peer.requests) for peer in bench.peers] == [2, 2, 3, 0]
    assert bench.selection().excluded == ""


def test_who_is_slow_is_replaced_and_comes_back_with_its_late_answer(start: Any) -> None:
    go_on = threading.Event()

    def slow(request: Any) -> list[Any]:
        go_on.wait(60.0)
        return answer(request)

    bench = start(slow, deadline_s=4.0)
    try:
        np.testing.assert_allclose(bench.serve(), WHOLE, rtol=1e-5)
        (fault,) = bench.ledger.rows(FaultRow)
        assert (fault.agent, fault.kind) == ("a0", "DeadlineMissed")
        assert fault.waited_s >= 2.0
        assert bench.selection().excluded.startswith("a0: resting: ")
        np.testing.assert_allclose(bench.serve(), WHOLE, rtol=1e-5)  # it is not waited for again
        assert len(list(bench.ledger.rows(FaultRow))) == 1
    finally:
        go_on.set()
    assert bench.client.wait_ready(timeout_s=20.0)
    np.testing.assert_allclose(bench.serve(), WHOLE, rtol=1e-5)
    assert bench.client.discarded == 1
    assert [len(peer.requests) for peer in bench.peers] == [2, 2, 3, 0]


def test_what_has_no_host_left_is_skipped_and_marked(start: Any) -> None:
    bench = start(busy, out_of_memory)
    served = np.where(ROUTED < 2, 0.0, GATES * (ROUTED + 1)).sum(axis=1)
    wanted = HIDDEN * served[:, None]
    np.testing.assert_allclose(bench.serve(), wanted, rtol=1e-5)
    row = bench.selection()
    assert (row.kept, row.skipped, row.faulted, row.status) == (5, 5, 5, "infeasible")
    skipped = np.where(ROUTED < 2, GATES, 0.0).sum(axis=1) * SKIP
    assert row.deviation_bound_max == pytest.approx(skipped.max())
    assert row.deviation_bound_mean == pytest.approx(skipped.mean())
    assert [fault.agent for fault in bench.ledger.rows(FaultRow)] == ["a0", "a1"]
    bench.serve()  # known from the start: the policy skips them, no fault any more
    row = bench.selection()
    assert (row.kept, row.skipped, row.faulted, row.status) == (5, 5, 0, "infeasible")


def test_a_stand_in_is_found_for_what_a_fault_took(start: Any) -> None:
    bench = start(busy, busy, policy="siftmoe", tables=tables(BudgetKind.PRICE, 1e9))
    output = bench.serve()
    row = bench.selection()
    assert (row.kept, row.replaced, row.faulted, row.status) == (5, 5, 0, "feasible")
    moved = np.where(ROUTED < 2, GATES * STAND_IN, 0.0).sum(axis=1)
    assert row.deviation_bound_mean == pytest.approx(moved.mean())
    assert np.abs(output).sum() > 0.0


def test_the_layers_deadline_ends_the_search(start: Any) -> None:
    bench = start(silent, silent, deadline_s=2.0)
    began_s = time.monotonic()
    served = np.where(ROUTED < 2, 0.0, GATES * (ROUTED + 1)).sum(axis=1)
    np.testing.assert_allclose(bench.serve(), HIDDEN * served[:, None], rtol=1e-5)
    assert time.monotonic() - began_s < 10.0
    row = bench.selection()
    assert (row.faulted, row.status) == (5, "infeasible")
    assert {row.kind for row in bench.ledger.rows(FaultRow)} == {"DeadlineMissed"}


def test_when_nobody_is_left_it_waits_and_then_tells(start: Any) -> None:
    bench = start(busy, busy, busy, busy)
    assert not bench.serve().any()
    assert bench.selection().faulted == 10
    for peer in bench.peers:
        peer.close()
    bench.coordinator.begin_step(tokens=5, prefill=True)
    with pytest.raises(AgentUnreachable, match=r"no helper was ready for 0.2 s: a0: "):
        bench.coordinator.run_layer(0, HIDDEN, routed_experts=ROUTED, gate_weights=GATES)
