"""Layers of a coordinator: what is booked, when the clock advances, what a failure leaves.

The experts are real ones on ONNX Runtime in this process; links do not change.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from siftmoe.coordinator.air.interface import AirInterface
from siftmoe.coordinator.coordinator import Coordinator
from siftmoe.coordinator.errors import AgentUnreachable, LedgerError
from siftmoe.coordinator.ledger.store import Ledger, SelectionRow, StepRow, TransmissionRow
from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.selection.problem import Budget, BudgetKind
from siftmoe.coordinator.selection.tables import LayerTables, unknown_tables
from siftmoe.models.bundle.reader import Bundle
from siftmoe.tools.comparing.inprocess import AllReady, ExpertsInProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HELPERS = 2
GAIN, BACK, NOISE, BAND = [1e-8, 4e-8], [2e-8, 5e-8], 4e-21, 2e6
BITS, DEADLINE, COMPUTE = 256, 2e-4, 3e-5
LINKS = FixedLinks(gain=GAIN, downlink_gain=BACK, noise_psd=NOISE, bandwidth_hz=BAND)


class Faulty:
    """A dispatcher that breaks off at a given call."""

    def __init__(self, dispatcher: Any, *, at: int) -> None:
        self._dispatcher, self._left = dispatcher, at
        self.deadline_s = dispatcher.deadline_s
        self.attend = dispatcher.attend

    def attempt(self, *args: Any, **options: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            raise AgentUnreachable("agent 'agent-1' is dead: it was killed")
        return self._dispatcher.attempt(*args, **options)


@pytest.fixture(scope="module")
def bundle(family_bundle: Callable[[str], Path]) -> Bundle:
    return Bundle.open(family_bundle("mixtral"))


@pytest.fixture(scope="module")
def experts(bundle: Bundle) -> ExpertsInProcess:
    return ExpertsInProcess(bundle)


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> Any:
    return bundle.load_backbone().eval()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.create(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


def make(bundle: Bundle, dispatcher: Any, ledger: Ledger, **changes: Any) -> Coordinator:
    shape = bundle.shape
    parts: dict[str, Any] = {
        "fleet": AllReady(shape, HELPERS),
        "dispatcher": dispatcher,
        "links": LINKS,
        "air": AirInterface(
            payload_bits=BITS,
            token_deadline_s=DEADLINE,
            tx_power_limit_w=1.0,
            compute_s_per_token=COMPUTE,
            width=32,
            reply_width=32,
        ),
        "policy": make_policy("topk"),
        "tables": unknown_tables(
            shape.num_layers,
            shape.num_experts,
            budget=Budget(kind=BudgetKind.PER_TOKEN, value=0.0),
            width=32,
        ),
        "ledger": ledger,
    }
    return Coordinator(**{**parts, **changes})


def feed(model: Any, length: int) -> None:
    with torch.inference_mode():
        model(input_ids=torch.arange(3, 3 + length)[None])


def test_every_burst_has_the_closed_forms_energy(
    bundle: Bundle, experts: ExpertsInProcess, model: Any, ledger: Ledger
) -> None:
    with make(bundle, experts, ledger).attached(model):
        feed(model, 5)
    rows = list(ledger.rows(TransmissionRow))
    assert {(row.layer, row.direction) for row in rows} == {
        (layer, direction) for layer in range(2) for direction in ("up", "down")
    }
    window = 5 * DEADLINE
    for row in rows:
        gain = (GAIN if row.direction == "up" else BACK)[int(row.agent[-1])]
        growth = math.expm1(math.log(2) * row.tokens * BITS / (BAND * window))
        assert row.energy_j == pytest.approx(window * NOISE * BAND / gain * growth, rel=1e-12)
        assert row.airtime_s == pytest.approx(window)
    for selection in ledger.rows(SelectionRow):
        uplink = sum(r.energy_j for r in rows if (r.layer, r.direction) == (selection.layer, "up"))
        assert selection.predicted_energy_j == pytest.approx(uplink, rel=1e-12)


def test_the_clock_advances_by_windows_and_compute(
    bundle: Bundle, experts: ExpertsInProcess, model: Any, ledger: Ledger
) -> None:
    coordinator = make(bundle, experts, ledger)
    with coordinator.attached(model):
        feed(model, 5)
        feed(model, 1)
    prefill, decode = ledger.rows(StepRow)
    assert (prefill.kind, prefill.tokens, prefill.time_s) == ("prefill", 5, 0.0)
    assert (decode.kind, decode.tokens) == ("decode", 1)
    loads = np.zeros((2, 2))
    for row in ledger.rows(TransmissionRow):
        loads[row.step, row.layer] = max(loads[row.step, row.layer], row.tokens)
    for step, tokens in ((prefill, 5), (decode, 1)):
        windows = 2 * 2 * tokens * DEADLINE  # two layers, two directions
        assert step.airtime_s == pytest.approx(windows)
        assert step.latency_s == pytest.approx(windows + COMPUTE * loads[step.step].sum())
    assert decode.time_s == pytest.approx(prefill.latency_s)
    assert coordinator.now_s == pytest.approx(prefill.latency_s + decode.latency_s)
    first_of_decode = next(row for row in ledger.rows(TransmissionRow) if row.step == 1)
    assert first_of_decode.time_s == decode.time_s


def test_a_step_that_breaks_off_books_what_it_spent_apart(
    bundle: Bundle, experts: ExpertsInProcess, model: Any, ledger: Ledger
) -> None:
    """The second step's second layer sends its requests and gets no answer."""
    with make(bundle, Faulty(experts, at=4), ledger).attached(model):
        feed(model, 3)
        with pytest.raises(AgentUnreachable, match="agent-1"):
            feed(model, 3)
        feed(model, 2)
    steps = [(row.tokens, row.aborted) for row in ledger.rows(StepRow)]
    assert steps == [(3, False), (3, True), (2, False)]
    bursts: dict[int, set[tuple[int, str]]] = {0: set(), 1: set(), 2: set()}
    for row in ledger.rows(TransmissionRow):
        bursts[row.step].add((row.layer, str(row.direction)))
    whole = {(0, "up"), (0, "down"), (1, "up"), (1, "down")}
    assert bursts == {0: whole, 1: whole - {(1, "down")}, 2: whole}
    total = ledger.summary()
    assert (total.steps, total.tokens, total.aborted) == (2, 5, 1)
    spent = [row.energy_j for row in ledger.rows(TransmissionRow) if row.step == 1]
    assert total.aborted_energy_j == pytest.approx(sum(spent))


def test_a_step_that_an_interrupt_left_open_is_booked_when_the_model_is_left(
    bundle: Bundle, experts: ExpertsInProcess, model: Any, ledger: Ledger
) -> None:
    coordinator = make(bundle, experts, ledger)
    with coordinator.attached(model):
        coordinator.begin_step(tokens=2, prefill=True)
        serve(coordinator, bundle, [[0, 1], [1, 2]])
    (step,) = ledger.rows(StepRow)
    assert step.aborted
    assert len(list(ledger.rows(TransmissionRow))) > 0


def serve(coordinator: Coordinator, bundle: Bundle, routed: list[list[int]]) -> Any:
    """Output of the first layer for some rows, weights 0.6 and 0.4."""
    hidden = np.linspace(-1, 1, len(routed) * bundle.shape.hidden_size, dtype=np.float32)
    return coordinator.run_layer(
        0,
        hidden.reshape(len(routed), -1),
        routed_experts=np.array(routed),
        gate_weights=np.tile([0.6, 0.4], (len(routed), 1)),
    )


def near(shape: Any) -> list[LayerTables]:
    """Every replacement costs a tenth, every skip 1, a token may deviate by 0.05."""
    deviation = np.full((shape.num_experts, shape.num_experts + 1), 0.1)
    deviation[:, -1] = 1.0
    deviation[np.diag_indices(shape.num_experts)] = 0.0
    budget = Budget(kind=BudgetKind.PER_TOKEN, value=0.05)
    scale = np.ones_like(deviation)
    table = LayerTables(deviation=deviation, scale=scale, budget=budget, width=32)
    return [table] * shape.num_layers


@pytest.mark.parametrize("policy", ["topk", "topk-1", "siftmoe"])
def test_an_empty_slot_is_a_skip_that_costs_nothing(
    policy: str, bundle: Bundle, experts: ExpertsInProcess, ledger: Ledger
) -> None:
    none = bundle.shape.num_experts
    parts = {"policy": make_policy(policy), "tables": near(bundle.shape)}
    coordinator = make(bundle, experts, ledger, **parts)
    coordinator.begin_step(tokens=3, prefill=True)
    output = serve(coordinator, bundle, [[2, none], [none, none], [none, 1]])
    coordinator.end_step(failed=False)
    weights = {0: (2, 0.6), 2: (1, 0.4)}
    hidden = np.linspace(-1, 1, 3 * bundle.shape.hidden_size, dtype=np.float32).reshape(3, -1)
    for row, (expert, weight) in weights.items():
        alone = experts.undivided(
            0,
            hidden[row : row + 1],
            routed_experts=np.array([[expert]]),
            gate_weights=np.array([[weight]]),
        )
        np.testing.assert_allclose(output[row], alone[0], rtol=1e-5, atol=1e-6)
    assert not output[1].any()
    (selection,) = ledger.rows(SelectionRow)
    assert (selection.kept, selection.replaced, selection.skipped) == (2, 0, 2)
    assert selection.deviation_bound_max == 0.0
    sent = {r.agent: r.tokens for r in ledger.rows(TransmissionRow) if r.direction == "up"}
    assert sent == {"agent-0": 1, "agent-1": 1}
    uplink = sum(r.energy_j for r in ledger.rows(TransmissionRow) if r.direction == "up")
    assert selection.predicted_energy_j == pytest.approx(uplink, rel=1e-12)


def test_the_audit_of_all_kept_is_zero(
    bundle: Bundle, experts: ExpertsInProcess, model: Any, ledger: Ledger
) -> None:
    with make(bundle, experts, ledger, reference=experts.undivided).attached(model):
        feed(model, 4)
    for row in ledger.rows(SelectionRow):
        assert row.measured_deviation == pytest.approx(0.0, abs=1e-5)
        assert row.within_bound == 4


def test_the_audit_sees_what_is_left_out(
    bundle: Bundle, experts: ExpertsInProcess, model: Any, ledger: Ledger
) -> None:
    parts = {"reference": experts.undivided, "policy": make_policy("topk-1")}
    with make(bundle, experts, ledger, **parts).attached(model):
        feed(model, 4)
    assert all(row.measured_deviation > 1e-3 for row in ledger.rows(SelectionRow))


def test_a_layer_outside_a_pass_is_told(
    bundle: Bundle, experts: ExpertsInProcess, ledger: Ledger
) -> None:
    with pytest.raises(ValueError, match="outside a forward pass"):
        make(bundle, experts, ledger).run_layer(
            0,
            np.zeros((1, bundle.shape.hidden_size), np.float32),
            routed_experts=np.array([[0, 1]]),
            gate_weights=np.array([[0.5, 0.5]]),
        )


def test_a_pass_in_another_thread_is_booked_like_any_other(
    bundle: Bundle, experts: ExpertsInProcess, model: Any, ledger: Ledger
) -> None:
    failed: list[BaseException] = []

    def passes() -> None:
        try:
            for length in (3, 1, 1):
                feed(model, length)
        except BaseException as error:  # noqa: BLE001 - a thread's own end, told below
            failed.append(error)

    with make(bundle, experts, ledger).attached(model):
        threads = [threading.Thread(target=passes) for _ in range(3)]
        for thread in threads:
            thread.start()
        feed(model, 2)
        for thread in threads:
            thread.join(60.0)
    assert failed == []
    steps = list(ledger.rows(StepRow))
    assert sorted(step.tokens for step in steps) == [1] * 6 + [2] + [3] * 3
    assert [step.step for step in steps] == list(range(10))
    layers = [(row.step, row.layer) for row in ledger.rows(SelectionRow)]
    assert layers == [(step, layer) for step in range(10) for layer in range(2)]


def test_the_base_model_alone_and_compiled_models_run(
    bundle: Bundle, experts: ExpertsInProcess, model: Any, ledger: Ledger
) -> None:
    ids = torch.arange(3, 8)[None]
    with torch.no_grad(), make(bundle, experts, ledger).attached(model):
        whole = model(ids).logits
        base = model.model(ids).last_hidden_state
        torch.testing.assert_close(model.lm_head(base), whole)
        compiled = torch.compile(model, backend="eager")
        torch.testing.assert_close(compiled(ids).logits, whole)
    assert [step.tokens for step in ledger.rows(StepRow)] == [5] * 3
    assert not any(step.aborted for step in ledger.rows(StepRow))


def feed_often(model: Any, length: int, *, times: int) -> None:
    for _ in range(times):
        feed(model, length)


def test_a_step_that_cannot_be_booked_is_booked_before_the_next(
    bundle: Bundle, experts: ExpertsInProcess, model: Any, ledger: Ledger
) -> None:
    connection = ledger._open_connection()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    with make(bundle, experts, ledger).attached(model):
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(LedgerError, match="cannot be written"):
            feed_often(model, 2, times=100)
        booked = ledger.last_step
        with pytest.raises(LedgerError, match="cannot be written"):
            feed(model, 2)
        connection.execute("PRAGMA max_page_count = 100000")
        feed(model, 3)
    steps = list(ledger.rows(StepRow))
    whole = -1 if booked is None else booked
    assert [step.step for step in steps] == list(range(whole + 3))
    assert [step.tokens for step in steps[-2:]] == [2, 3]


def test_a_value_that_cannot_be_booked_spoils_no_later_step(
    bundle: Bundle, experts: ExpertsInProcess, model: Any, ledger: Ledger
) -> None:
    coordinator = make(bundle, experts, ledger)
    with coordinator.attached(model):
        coordinator.begin_step(tokens=-1, prefill=True)
        with pytest.raises(ValueError, match="cannot be booked"):
            coordinator.end_step(failed=False)
        feed(model, 3)
    assert [step.tokens for step in ledger.rows(StepRow)] == [3]
