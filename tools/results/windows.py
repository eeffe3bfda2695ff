"""Compares the windows of a run with the coherence time of its simulated channel.

The gain is taken at a window's start and kept for its length. Where a window is longer than the
coherence time, a real channel would have changed within it: such a run describes a channel that is
constant over a layer and drawn again for the next one, and must say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.ledger.rows import TransmissionRow

if TYPE_CHECKING:
    from siftmoe.coordinator.ledger.store import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Windows of a run that outlast the coherence time.

    Parameters
    ----------
    coherence_time_s : float, s
    count : int
        All windows with a burst: one for each layer of each step and direction.
    longer : int
        Those whose longest burst is longer than the coherence time.
    mean_ratio, most_ratio : float
        Length of those over the coherence time, their mean and the largest; 0 if there are none.
    """

    coherence_time_s: float
    count: int
    longer: int
    mean_ratio: float = 0.0
    most_ratio: float = 0.0

    def warning(self) -> str:
        """Return the warning; empty if every window is within the coherence time."""
        if not self.longer:
            return ""
        return (
            f"warning: {self.longer} of {self.count} windows are longer than the coherence time of "
            f"{self.coherence_time_s:g} s, {self.mean_ratio:.3g} times in the mean of those "
            f"and {self.most_ratio:.3g} at most; the gain is constant over a layer all the same, "
            f"and redrawn per layer. Shorten the windows (--batch, --deadline), lengthen "
            f"--coherence, or let the gain change within a window (--fading-slots)"
        )


def windows_of(ledger: Ledger, coherence_time_s: float, *, run: int | None = None) -> Windows:
    """Compare the longest burst of every layer, step and direction with the coherence time.

    Parameters
    ----------
    ledger : Ledger
    coherence_time_s : float, s
    run : int or None
        Number of the run in the ledger; None: the last.
    """
    longest: dict[tuple[int, int, str], float] = {}
    for row in ledger.rows(TransmissionRow, run=run):
        key = (row.step, row.layer, str(row.direction))
        longest[key] = max(longest.get(key, 0.0), row.airtime_s)
    ratio = np.array(list(longest.values())) / coherence_time_s
    over = ratio[ratio > 1.0 + 1e-9]
    if not len(over):
        return Windows(coherence_time_s=coherence_time_s, count=len(ratio), longer=0)
    return Windows(
        coherence_time_s=coherence_time_s,
        count=len(ratio),
        longer=len(over),
        mean_ratio=float(over.mean()),
        most_ratio=float(over.max()),
    )
