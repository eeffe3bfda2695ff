"""Rows of a ledger with plausible values, changed as a test asks."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from siftmoe.coordinator.ledger.rows import SelectionRow, StepRow, TransmissionRow
from siftmoe.radio.channel.link import ChannelOrigin, Source

if TYPE_CHECKING:
    from siftmoe.coordinator.ledger.store import Ledger


def step(number: int, **changes: Any) -> StepRow:
    row = StepRow(
        step=number,
        kind="decode",
        time_s=0.5 * number,
        tokens=2,
        latency_s=0.4,
        airtime_s=0.2,
        solve_s=0.01,
        queue_s=0.02,
        compute_s=0.05,
        backbone_s=0.1,
        wall_s=0.3,
    )
    return dataclasses.replace(row, **changes)


def selection(number: int, **changes: Any) -> SelectionRow:
    row = SelectionRow(
        step=number,
        layer=0,
        kept=3,
        replaced=1,
        skipped=0,
        predicted_energy_j=0.5,
        lower_bound_j=0.4,
        status="feasible",
        deviation_bound_mean=0.01,
        deviation_bound_max=0.02,
        measured_deviation=None,
        solve_s=0.001,
    )
    return dataclasses.replace(row, **changes)


def burst(number: int, **changes: Any) -> TransmissionRow:
    row = TransmissionRow(
        time_s=0.5 * number,
        step=number,
        layer=0,
        agent="a0",
        direction="up",
        tokens=2,
        payload_bits=4096.0,
        tx_power_w=0.1,
        tx_power_std_w=0.01,
        power_source=Source.MODELLED,
        airtime_s=0.1,
        airtime_source=Source.MODELLED,
        energy_j=0.01,
        energy_std_j=0.001,
        rate_bps=40960.0,
        channel_gain=1e-6,
        channel_age_s=0.02,
        channel_origin=ChannelOrigin.SIMULATED,
    )
    return dataclasses.replace(row, **changes)


def book(ledger: Ledger, number: int, *, bursts: int = 300) -> None:
    for _ in range(bursts):
        ledger.add(burst(number))
    ledger.commit(step(number))
