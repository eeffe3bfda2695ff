"""Layers of a coordinator: what is booked, and when the clock advances.

The experts are real ones on ONNX Runtime in this process; links do not change.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from small_coordinator import BACK, BAND, BITS, COMPUTE, DEADLINE, GAIN, NOISE, feed, make, serve

from siftmoe.coordinator.ledger.store import Ledger, SelectionRow, StepRow, TransmissionRow
from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.selection.problem import Budget, BudgetKind
from siftmoe.coordinator.selection.tables import LayerTables
from siftmoe.models.bundle.reader import Bundle
from siftmoe.tools.comparing.inprocess import ExpertsInProcess


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
        both = sum(r.energy_j for r in rows if r.layer == selection.layer)
        assert selection.predicted_energy_j == pytest.approx(both, rel=1e-12)


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
    both = sum(row.energy_j for row in ledger.rows(TransmissionRow))
    assert selection.predicted_energy_j == pytest.approx(both, rel=1e-12)


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
