"""Rows of a ledger with plausible values, changed as a test asks."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.coordinator.ledger.rows import (
    BoardRow,
    SelectionRow,
    SoundingRow,
    StepRow,
    TransmissionRow,
)
from siftmoe.radio.channel.link import ChannelOrigin, Source

if TYPE_CHECKING:
    from siftmoe.coordinator.ledger.store import Ledger

RESPONSE = np.exp(1j * np.arange(200)).astype(np.complex64)


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


def sounding(**changes: Any) -> SoundingRow:
    row = SoundingRow(
        time_s=0.5,
        agent="a0",
        direction="up",
        tx_power_w=1e-3,
        tx_power_std_w=1e-5,
        power_source=Source.MEASURED,
        airtime_s=2e-3,
        airtime_source=Source.MEASURED,
        energy_j=2e-6,
        energy_std_j=2e-8,
        carrier_hz=2.4e9,
        detected=True,
        channel_gain=1e-6,
        gain_std=1e-8,
        snr=100.0,
        cfo_hz=-1200.0,
        noise_psd=1e-20,
        gain_source=Source.DERIVED,
        noise_psd_std=1e-21,
        noise_source=Source.MEASURED,
        cfo_std_hz=1.5,
        response=RESPONSE.tobytes(),
    )
    return dataclasses.replace(row, **changes)


def board(**changes: Any) -> BoardRow:
    row = BoardRow(
        agent="a0",
        rails="VDD_IN",
        energy_j=50.0,
        energy_std_j=0.5,
        idle_power_w=4.0,
        idle_power_std_w=0.04,
        duration_s=10.0,
        net_j=10.0,
        net_std_j=0.64,
        samples=1000,
        longest_gap_s=0.02,
    )
    return dataclasses.replace(row, **changes)


def book(ledger: Ledger, number: int, *, bursts: int = 300) -> None:
    for _ in range(bursts):
        ledger.add(burst(number))
    ledger.commit(step(number))
