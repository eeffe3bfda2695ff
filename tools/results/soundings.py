"""Pilot exchanges of a run by link, read from the ledger."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.ledger.rows import SoundingRow
from siftmoe.coordinator.ledger.store import Ledger
from siftmoe.tools.results.policies import LEDGER_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    ComplexArray = NDArray[np.complex64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkHistory:
    """One direction of one link over a run.

    Parameters
    ----------
    agent, direction : str
    time_s : (n,), s
        Times of the exchanges in which the pilots were detected.
    gain, gain_std, snr : (n,), linear
    cfo_hz : (n,), Hz
    missed_s : (m,), s
        Times of the exchanges without a detection.
    reason : str
        Reason of the last one; empty if there was none.
    response : (C,) complex64
        Path amplitude over the carriers in the last exchange.
    energy_j : float, J
        Energy of all pilots.
    source : str
        Source of the power.
    """

    agent: str
    direction: str
    time_s: FloatArray
    gain: FloatArray
    gain_std: FloatArray
    snr: FloatArray
    cfo_hz: FloatArray
    missed_s: FloatArray
    reason: str
    response: ComplexArray
    energy_j: float
    source: str


def load_soundings(folder: Path) -> list[LinkHistory]:
    """Read the pilot exchanges of all runs in a folder's ledger, by agent and direction."""
    rows: dict[tuple[str, str], list[SoundingRow]] = defaultdict(list)
    with Ledger.open(folder / LEDGER_FILE) as ledger:
        for run in ledger.labels().values():
            for row in ledger.rows(SoundingRow, run=run):
                rows[row.agent, str(row.direction)].append(row)
    return [
        _history(agent, direction, rows[agent, direction])
        # Up before down, agents by name.
        for agent, direction in sorted(rows, key=lambda key: (key[0], key[1] != "up"))
    ]


def _history(agent: str, direction: str, rows: Sequence[SoundingRow]) -> LinkHistory:
    heard = [row for row in rows if row.detected]
    missed = [row for row in rows if not row.detected]

    def column(name: str) -> FloatArray:
        return np.array([getattr(row, name) for row in heard], dtype=np.float64)

    response = heard[-1].response if heard else b""
    return LinkHistory(
        agent=agent,
        direction=direction,
        time_s=column("time_s"),
        gain=column("channel_gain"),
        gain_std=column("gain_std"),
        snr=column("snr"),
        cfo_hz=column("cfo_hz"),
        missed_s=np.array([row.time_s for row in missed]),
        reason=_reason(heard, missed),
        response=np.frombuffer(response, dtype=np.complex64),
        energy_j=sum(row.energy_j for row in rows),
        source="+".join(sorted({row.power_source.value for row in rows})),
    )


def _reason(heard: Sequence[SoundingRow], missed: Sequence[SoundingRow]) -> str:
    """Last reason of a miss; else how many gains are uncertain, and the last reason for that."""
    if missed:
        return missed[-1].reason
    doubtful = [row.reason for row in heard if row.reason]
    return f"{len(doubtful)} gains uncertain: {doubtful[-1]}" if doubtful else ""


def history_rows(histories: Sequence[LinkHistory]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table of links, as text."""
    header = [
        "link",
        "heard",
        "gain",
        "spread",
        "uncertainty",
        "SNR",
        "carrier offset",
        "its spread",
        "pilots' power is",
        "not heard, or uncertain, because",
    ]
    return header, [_row(history) for history in histories]


def _row(link: LinkHistory) -> list[str]:
    name = f"{link.agent} {link.direction}"
    tried = len(link.time_s) + len(link.missed_s)
    heard = f"{len(link.time_s)} of {tried}"
    if not len(link.time_s):
        return [name, heard, *["-"] * 6, link.source, link.reason]
    gain_db = 10.0 * np.log10(link.gain)
    uncertainty_db = 10.0 / np.log(10.0) * float(np.mean(link.gain_std / link.gain))
    return [
        name,
        heard,
        f"{np.mean(gain_db):.1f} dB",
        _spread(gain_db, "{:.2f} dB"),
        f"± {uncertainty_db:.2f} dB",
        f"{10.0 * np.log10(np.mean(link.snr)):.1f} dB",
        f"{np.mean(link.cfo_hz):.0f} Hz",
        _spread(link.cfo_hz, "{:.0f} Hz"),
        link.source,
        link.reason,
    ]


def _spread(values: FloatArray, form: str) -> str:
    """Format the standard deviation over the exchanges; one exchange has none."""
    return form.format(float(np.std(values))) if len(values) > 1 else "-"
