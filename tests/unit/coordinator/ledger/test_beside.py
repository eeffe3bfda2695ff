"""Soundings and board energies, which belong to no step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ledger_rows import RESPONSE, board, sounding

from siftmoe.coordinator.ledger.store import BoardRow, Ledger, SoundingRow

if TYPE_CHECKING:
    from pathlib import Path

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
