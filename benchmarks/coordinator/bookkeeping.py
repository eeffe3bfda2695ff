"""Times of the coordinator's bookkeeping: splitting a plan over helpers, and booking a step."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.dispatch.grouping import group
from siftmoe.coordinator.ledger.store import Ledger, SelectionRow, StepRow, TransmissionRow
from siftmoe.coordinator.selection.problem import SelectionPlan, Status
from siftmoe.radio.channel.link import ChannelOrigin, Source

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN_SIZE = 768  # 3 KB a token


def group_cost(tokens: int, slots: int, rounds: int) -> float:
    """Microseconds to split a plan over 8 helpers."""
    rng = np.random.default_rng(0)
    plan = SelectionPlan(
        helper=rng.integers(0, 8, size=(tokens, slots)),
        expert=rng.integers(0, 8, size=(tokens, slots)),
        weight=rng.random((tokens, slots)),
        width=np.full((tokens, slots), 16),
        status=Status.FEASIBLE,
        energy_j=0.0,
        lower_bound_j=0.0,
        deviation=np.zeros(tokens),
    )
    hidden = np.ones((tokens, HIDDEN_SIZE), np.float32)
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        group(plan, hidden, layer=0)
        times.append(time.perf_counter() - began)
    return float(np.percentile(times, 10) * 1e6)


def ledger_cost(folder: Path, layers: int, bursts: int, rounds: int) -> float:
    """Microseconds to book a step: per layer one selection and ``bursts`` transmissions."""
    times = []
    with Ledger.create(folder / "ledger.sqlite") as ledger:
        for step in range(rounds):
            began = time.perf_counter()
            for layer in range(layers):
                ledger.add(selection(step, layer))
                for _ in range(bursts):
                    ledger.add(burst(step, layer))
            ledger.commit(step_row(step))
            times.append(time.perf_counter() - began)
    return float(np.median(times) * 1e6)


def selection(step: int, layer: int) -> SelectionRow:
    return SelectionRow(
        step=step,
        layer=layer,
        kept=2,
        replaced=0,
        skipped=0,
        predicted_energy_j=1.0,
        lower_bound_j=1.0,
        status="optimal",
        deviation_bound_mean=0.0,
        deviation_bound_max=0.0,
        measured_deviation=None,
        solve_s=0.0,
    )


def burst(step: int, layer: int) -> TransmissionRow:
    return TransmissionRow(
        time_s=0.0,
        step=step,
        layer=layer,
        agent="a0",
        direction="up",
        tokens=1,
        payload_bits=1.0,
        tx_power_w=1.0,
        tx_power_std_w=0.0,
        power_source=Source.MODELLED,
        airtime_s=1.0,
        airtime_source=Source.MODELLED,
        energy_j=1.0,
        energy_std_j=0.0,
        rate_bps=1.0,
        channel_gain=1.0,
        channel_age_s=0.0,
        channel_origin=ChannelOrigin.SIMULATED,
    )


def step_row(step: int) -> StepRow:
    return StepRow(
        step=step,
        kind="decode",
        time_s=0.0,
        tokens=1,
        latency_s=1.0,
        airtime_s=1.0,
        solve_s=0.0,
        queue_s=0.0,
        compute_s=0.0,
        backbone_s=0.0,
        wall_s=1.0,
    )
