"""A layer whose helpers fail: on real sockets, with peers that misbehave as each test asks."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from peers import Peer

from siftmoe.agent.errors import ErrorCode
from siftmoe.agent.wire.protocol import Failure, Result
from siftmoe.coordinator.air.interface import AirInterface
from siftmoe.coordinator.air.slotted import SlottedAir
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.coordinator import Coordinator
from siftmoe.coordinator.dispatch.dispatcher import Dispatcher
from siftmoe.coordinator.errors import AgentUnreachable
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.coordinator.ledger.store import (
    FaultRow,
    Ledger,
    SelectionRow,
    StepRow,
    TransmissionRow,
)
from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.selection.problem import Budget, BudgetKind
from siftmoe.coordinator.selection.tables import LayerTables
from siftmoe.models.shape import ModelShape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

E, D = 4, 3  # expert e scales a vector by e + 1, whoever computes it
#: Peer n of four: the first two host experts 0 and 1, the others 2 and 3.
RESIDENTS = [((0, 0), (0, 1)), ((0, 0), (0, 1)), ((0, 2), (0, 3)), ((0, 2), (0, 3))]
#: Helper 0 and 2 are nearer than their replicas, and so are asked first.
GAINS = [4e-8, 1e-8, 3e-8, 2e-8]
SKIP, STAND_IN = 1.0, 0.1
SHAPE = ModelShape(
    num_layers=1, num_experts=E, top_k=2, hidden_size=D, intermediate_size=8, activation="silu"
)
ROUTED = np.array([[0, 2], [1, 3], [0, 1], [2, 3], [3, 0]])
GATES = np.tile([0.6, 0.4], (5, 1))
AIR = AirInterface(
    payload_bits=256, token_deadline_s=2e-4, tx_power_limit_w=1.0, width=32, reply_width=32
)
LINKS = FixedLinks(gain=GAINS, noise_psd=4e-21, bandwidth_hz=2e6)
HIDDEN = np.random.default_rng(0).standard_normal((5, D)).astype(np.float32)
WHOLE = (HIDDEN.astype(float)[:, None] * (GATES * (ROUTED + 1))[..., None]).sum(axis=1)


def answer(request: Any) -> list[Any]:
    """What a healthy agent says."""
    output = np.zeros(request.hidden.shape, np.float32)
    for (row, expert), weight in zip(request.pairs, request.weights, strict=True):
        output[row] += weight * (expert + 1) * request.hidden[row]
    return [Result(id=request.id, output=output, compute_s=0.25, queue_s=0.125)]


def busy(request: Any) -> list[Any]:
    return [Failure(id=request.id, code=ErrorCode.BUSY, message="256 requests are waiting")]


def out_of_memory(request: Any) -> list[Any]:
    return [Failure(id=request.id, code=ErrorCode.OUT_OF_MEMORY, message="no 3 GB left")]


def garbage(_request: Any) -> list[Any]:
    return [[b"\xff\xfe no message"]]


def wrong_shape(request: Any) -> list[Any]:
    (result,) = answer(request)
    return [Result(id=request.id, output=result.output[:-1], compute_s=0.0, queue_s=0.0)]


def silent(_request: Any) -> list[Any]:
    return []


def tables(kind: BudgetKind = BudgetKind.PER_TOKEN, value: float = 0.05) -> list[LayerTables]:
    """A stand-in costs a tenth, a skip 1, a token may deviate by 0.05."""
    deviation = np.full((E, E + 1), STAND_IN)
    deviation[:, -1] = SKIP
    deviation[np.diag_indices(E)] = 0.0
    budget = Budget(kind=kind, value=value)
    return [
        LayerTables(
            deviation=deviation, scale=np.ones_like(deviation), budget=budget, width=AIR.width
        )
    ]


class Bench:
    """A coordinator of one layer, its peers and its ledger."""

    def __init__(self, coordinator: Coordinator, client: Client, peers: list[Peer]) -> None:
        self.coordinator, self.client, self.peers = coordinator, client, peers
        self.ledger = coordinator.ledger

    def serve(self) -> NDArray[np.float32]:
        self.coordinator.begin_step(tokens=len(HIDDEN), prefill=True)
        output = self.coordinator.run_layer(0, HIDDEN, routed_experts=ROUTED, gate_weights=GATES)
        self.coordinator.end_step(failed=False)
        return output

    def selection(self) -> SelectionRow:
        return list(self.ledger.rows(SelectionRow))[-1]

    def bursts(self, direction: str) -> list[tuple[str, int, int]]:
        step = list(self.ledger.rows(StepRow))[-1].step
        return [
            (row.agent, row.tokens, row.missed)
            for row in self.ledger.rows(TransmissionRow)
            if (row.step, row.direction) == (step, direction)
        ]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Start four peers, each with its way to answer; None is healthy."""
    with contextlib.ExitStack() as stack:

        def start(
            *answers: Any, policy: str = "topk", deadline_s: float = 20.0, **more: Any
        ) -> Bench:
            peers = []
            for n in range(4):
                how = answers[n] if n < len(answers) else None
                peer = Peer(how or answer, hidden_size=D, residents=RESIDENTS[n])
                stack.callback(peer.close)
                peers.append(peer)
            agents = [AgentEntry(name=f"a{n}", address=p.address) for n, p in enumerate(peers)]
            fleet = Fleet(agents, shape=SHAPE, model_hash="m" * 64)
            client = stack.enter_context(Client(fleet))
            client.connect(timeout_s=20.0)
            ledger = stack.enter_context(Ledger.create(tmp_path / "ledger.sqlite"))
            coordinator = Coordinator(
                fleet=fleet,
                dispatcher=Dispatcher(client, deadline_s=deadline_s, patience_s=0.2),
                links=LINKS,
                air=more.get("air") or AIR,
                policy=make_policy(policy),
                tables=more.get("tables") or tables(),
                ledger=ledger,
            )
            return Bench(coordinator, client, peers)

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
    assert row.predicted_energy_j == pytest.approx(booked)


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
