"""Stored calibrations: their time stamps and one line of text for each."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from siftmoe.radio.power.calibration import LevelEntry

if TYPE_CHECKING:
    from siftmoe.radio.power.calibration import PairEntry


def measured_now() -> str:
    """Time stamp of a calibration: UTC in ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def describe(entry: LevelEntry | PairEntry) -> str:
    """Describe a calibration in one line."""
    at = f"at {entry.carrier_hz / 1e6:g} MHz"
    if isinstance(entry, LevelEntry):
        if entry.temperature_c is not None:
            at += f", {entry.temperature_c:.1f} °C"
        name = "C_tx" if entry.path == "transmit" else "C_rx"
        return f"{entry.serial}: {name} {entry.full_scale_dbm:.2f} ± {entry.std_db:.2f} dBm {at}"
    pair = f"{entry.transmitter} -> {entry.receiver}"
    return f"{pair}: C_tx - C_rx {entry.difference_db:.2f} ± {entry.std_db:.2f} dB {at}"
