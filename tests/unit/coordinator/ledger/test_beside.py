"""Soundings and board energies, which belong to no step."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from siftmoe.coordinator.ledger.store import BoardRow, Ledger, SoundingRow
from siftmoe.radio.channel.link import Source

if TYPE_CHECKING:
    from pathlib import Path

RESPONSE = np.exp(1j * np.arange(200)).astype(np.complex64)


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


LOST = {
    "detected": False,
    "channel_gain": None,
    "gain_std": None,
    "snr": None,
    "cfo_hz": None,
    "noise_psd": None,
    "gain_source": None,
    "noise_psd_std": None,
    "noise_source": None,
    "cfo_std_hz": None,
    "reason": "no burst found",
    "response": b"",
}


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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_rows_are_kept_at_once_and_without_a_step(path: Path) -> None:
    rows = [sounding(), sounding(direction="down", **LOST)]
    ledger = Ledger.create(path)
    ledger.record(*rows)
    ledger.record(board(net_j=-0.3))
    with Ledger.open(path) as reader:
        assert list(reader.rows(SoundingRow)) == rows
        assert list(reader.rows(BoardRow)) == [board(net_j=-0.3)]
        (first, _) = reader.rows(SoundingRow)
    assert np.array_equal(np.frombuffer(first.response, np.complex64), RESPONSE)
    assert first.detected is True
    ledger.close()


def test_a_step_that_breaks_off_does_not_take_its_soundings_with_it(path: Path) -> None:
    with Ledger.create(path) as ledger:
        ledger.record(sounding())
        ledger.discard()
        assert len(list(ledger.rows(SoundingRow))) == 1


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (sounding(energy_j=-1.0), "energy_j"),
        (sounding(detected=True, channel_gain=None), "detected"),
        (sounding(detected=False), "detected"),
        (sounding(carrier_hz=0.0), "carrier_hz"),
        (board(duration_s=-1.0), "duration_s"),
        (board(energy_j=math.nan), "energy_j"),
    ],
)
def test_an_impossible_row_is_refused_with_those_beside_it(
    path: Path, row: Any, expected: str
) -> None:
    with Ledger.create(path) as ledger:
        with pytest.raises(ValueError, match=rf"cannot be booked: .*{expected}"):
            ledger.record(sounding(), row)
        assert list(ledger.rows(SoundingRow)) == []


def test_rows_belong_to_the_run_that_is_current(path: Path) -> None:
    with Ledger.create(path, label="topk") as ledger:
        ledger.record(sounding())
        first = ledger.run
        ledger.start_run("siftmoe")
        assert list(ledger.rows(SoundingRow)) == []
        assert list(ledger.rows(SoundingRow, run=first)) == [sounding()]
