"""Table of links from the soundings in a ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from siftmoe.coordinator.ledger.rows import SoundingRow
from siftmoe.coordinator.ledger.store import Ledger
from siftmoe.radio.channel.link import Source
from siftmoe.tools.results.policies import LEDGER_FILE
from siftmoe.tools.results.soundings import history_rows, load_soundings

if TYPE_CHECKING:
    from pathlib import Path


def _row(agent: str, time_s: float, *, detected: bool = True, reason: str = "") -> SoundingRow:
    found: dict[str, Any] = {
        "channel_gain": 1e-7,
        "gain_std": 1e-8,
        "snr": 100.0,
        "cfo_hz": 1e3,
        "noise_psd": 1e-20,
    }
    return SoundingRow(
        time_s=time_s,
        agent=agent,
        direction="up",
        tx_power_w=1e-3,
        tx_power_std_w=1e-4,
        power_source=Source.DERIVED,
        airtime_s=1e-3,
        airtime_source=Source.MEASURED,
        energy_j=1e-6,
        energy_std_j=1e-7,
        carrier_hz=2.4e9,
        detected=detected,
        reason=reason,
        **(found if detected else {}),
    )


def test_the_table_names_why_a_link_was_not_heard_or_is_uncertain(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / LEDGER_FILE) as ledger:
        ledger.record(
            _row("clean", 0.0),
            _row("late", 0.0, reason="first"),
            _row("late", 1.0),
            _row("late", 2.0, reason="the response does not fit"),
            _row("gone", 0.0, reason="uncertain"),
            _row("gone", 1.0, detected=False, reason="no burst"),
        )
    header, rows = history_rows(load_soundings(tmp_path))
    assert header[-1] == "not heard, or uncertain, because"
    assert {row[0]: row[-1] for row in rows} == {
        "clean up": "",
        "late up": "2 gains uncertain: the response does not fit",
        "gone up": "no burst",
    }
