"""Layers of a coordinator: what is booked, when the clock advances, what a failure leaves.

The experts are real ones on ONNX Runtime in this process; links do not change.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from siftmoe.coordinator.airtime import AirInterface
from siftmoe.coordinator.coordinator import Coordinator
from siftmoe.coordinator.errors import AgentUnreachable
from siftmoe.coordinator.ledger import Ledger, SelectionRow, StepRow, TransmissionRow
from siftmoe.coordinator.links import FixedLinks
from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.problems import unknown_tables
from siftmoe.coordinator.selection import Budget, BudgetKind
from siftmoe.models.bundle import Bundle
from siftmoe.tools.inprocess import AllReady, ExpertsInProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HELPERS = 2
GAIN, BACK, NOISE, BAND = [1e-8, 4e-8], [2e-8, 5e-8], 4e-21, 2e6
BITS, DEADLINE, COMPUTE = 256, 2e-4, 3e-5
LINKS = FixedLinks(gain=GAIN, downlink_gain=BACK, noise_psd=NOISE, bandwidth_hz=BAND)


class Faulty:
    """A dispatcher whose agent is lost at a given call."""

    def __init__(self, dispatcher: Any, *, at: int) -> None:
        self._dispatcher, self._left = dispatcher, at

    def run(self, *args: Any, **options: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            raise AgentUnreachable("agent 'agent-1' is dead: it was killed")
        return self._dispatcher.run(*args, **options)


@pytest.fixture(scope="module")
def bundle(family_bundle: Callable[[str], Path]) -> Bundle:
    return Bundle.open(family_bundle("mixtral"))


@pytest.fixture(scope="module")
def experts(bundle: Bundle) -> ExpertsInProcess:
    return ExpertsInProcess(bundle, payload_dtype="float32")


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
        ),
        "policy": make_policy("topk"),
        "tables": unknown_tables(
            shape.num_layers,
            shape.num_experts,
            budget=Budget(kind=BudgetKind.PER_TOKEN, value=0.0),
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


def test_a_step_that_fails_books_nothing(
    bundle: Bundle, experts: ExpertsInProcess, model: Any, ledger: Ledger
) -> None:
    with make(bundle, Faulty(experts, at=4), ledger).attached(model):
        feed(model, 3)
        with pytest.raises(AgentUnreachable, match="agent-1"):
            feed(model, 3)
        feed(model, 2)
    assert [row.tokens for row in ledger.rows(StepRow)] == [3, 2]
    booked = {row.step for row in ledger.rows(StepRow)}
    assert {row.step for row in ledger.rows(TransmissionRow)} == booked
    assert {row.step for row in ledger.rows(SelectionRow)} == booked


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
