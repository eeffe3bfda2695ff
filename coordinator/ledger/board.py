"""Energy of a run's boards, gross and net of idling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from siftmoe.coordinator.ledger.energy import Quantity

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardSum:
    """One agent's board over the run.

    Parameters
    ----------
    agent : str
    rails : str
        Rails that were summed.
    energy, net : Quantity, J
        Gross energy of the rails, and its excess over the energy of idling for as long.
    duration_s : float, s
    samples : int
    longest_gap_s : float, s
        Between two samples.
    """

    agent: str
    rails: str
    energy: Quantity
    net: Quantity
    duration_s: float
    samples: int
    longest_gap_s: float

    @property
    def mean_power_w(self) -> float:
        """Mean gross power, W; NaN if no time passed."""
        return self.energy.value / self.duration_s if self.duration_s else math.nan


def board_sums(connection: sqlite3.Connection, *, run: int) -> tuple[BoardSum, ...]:
    """Add up a run's boards, by agent; one board's errors are common to all its rows."""
    found = connection.execute(_BOARDS, (run,)).fetchall()
    return tuple(
        BoardSum(
            agent=agent,
            rails=rails,
            energy=Quantity(energy, energy_std),
            net=Quantity(net, net_std),
            duration_s=duration,
            samples=samples,
            longest_gap_s=gap,
        )
        for agent, rails, energy, energy_std, net, net_std, duration, samples, gap in found
    )


_BOARDS = """
    SELECT agent, group_concat(DISTINCT rails), total(energy_j), total(energy_std_j),
           total(net_j), total(net_std_j), total(duration_s), sum(samples), max(longest_gap_s)
    FROM board WHERE run = ? GROUP BY agent ORDER BY agent"""


def boards_energy(boards: Iterable[BoardSum], *, net: bool) -> Quantity:
    """Energy of several boards, J: their sensors err independently."""
    chosen = [board.net if net else board.energy for board in boards]
    return Quantity(sum(item.value for item in chosen), math.hypot(*[c.std for c in chosen]))
