"""What single steps decided and radiated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

_BURSTS = """
    SELECT direction, total(energy_j), group_concat(widths, ' ') FROM transmission
    WHERE run = ? AND step = ? GROUP BY direction"""
_SOURCES = "SELECT DISTINCT power_source FROM transmission WHERE run = ? AND step = ? ORDER BY 1"
_SLOTS = """
    SELECT total(kept), total(replaced), total(skipped) FROM selection
    WHERE run = ? AND step = ?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """Energy and decisions of one step, or a share of them.

    Parameters
    ----------
    uplink_j, answers_j : float, J
        Radiated to the helpers, and by them.
    kept, replaced, skipped : float
        Slots.
    vectors : float
        Hidden states sent to helpers.
    vector_bits : float, bit
        Sum of the bits of their entries.
    sources : frozenset of str
        Of the energies: measured, derived, modelled.
    """

    uplink_j: float = 0.0
    answers_j: float = 0.0
    kept: float = 0.0
    replaced: float = 0.0
    skipped: float = 0.0
    vectors: float = 0.0
    vector_bits: float = 0.0
    sources: frozenset[str] = frozenset()

    def share(self, part: float) -> Spending:
        """Return a share of it."""
        return Spending(
            **{name: part * getattr(self, name) for name in _NUMBERS}, sources=self.sources
        )

    def __add__(self, other: Spending) -> Spending:
        """Add up."""
        return Spending(
            **{name: getattr(self, name) + getattr(other, name) for name in _NUMBERS},
            sources=self.sources | other.sources,
        )


_NUMBERS = ("uplink_j", "answers_j", "kept", "replaced", "skipped", "vectors", "vector_bits")


def step_spending(connection: sqlite3.Connection, run: int, step: int) -> Spending:
    """Read what one booked step decided and radiated; nothing for a step that is not there."""
    energy: dict[str, float] = {}
    vectors = vector_bits = 0.0
    for direction, energy_j, widths in connection.execute(_BURSTS, (run, step)):
        energy[direction] = energy_j
        if direction == "up":
            parts = [part.split(":") for part in (widths or "").split()]
            vectors = sum(float(count) for _, count in parts)
            vector_bits = sum(float(width) * float(count) for width, count in parts)
    kept, replaced, skipped = connection.execute(_SLOTS, (run, step)).fetchone()
    return Spending(
        uplink_j=energy.get("up", 0.0),
        answers_j=energy.get("down", 0.0),
        kept=kept,
        replaced=replaced,
        skipped=skipped,
        vectors=vectors,
        vector_bits=vector_bits,
        sources=frozenset(row[0] for row in connection.execute(_SOURCES, (run, step))),
    )
