r"""Choice among several widths of vectors: deviation and energy of each.

A *way* is a helper and a width at which a token travels to it; the ways of N helpers and B widths
are numbered :math:`h = n B + b`. A policy treats them as separate helpers with the same experts,
the deviations of that width, and loads of that size. Two ways to one helper never help a token,
since the wider one alone deviates no more and costs less than both.

Loads add up either in *pooled* windows, where all ways to a helper draw on one burst and a token
counts as many units of payload as its width has, :math:`e_n(\sum_t u_{b_t})`, or by way, where
every token has a window of its own and a way costs the same for each. docs/explanation/theory.md,
section 8: our derivation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """The widths that a selection chooses from.

    Parameters
    ----------
    width : (B,) int64, bit
        Ascending.
    deviation : (B, E, E+1) float64
        As ``SelectionProblem.deviation``, for vectors of each width; never more at a greater one.
    scale : (B, E, E+1) float64
    known : (N, B) bool
        Which helper supports which width.
    units : (B,) int64
        Columns of the energy table that a token of each width occupies.
    pooled : bool
        Whether a row of the energy table is a helper's (N rows) or a way's (N * B rows).
    rounded : bool
        Whether units are rounded up, so that energies are inexact and lower bounds invalid.
    """

    width: IntArray
    deviation: FloatArray
    scale: FloatArray
    known: BoolArray
    units: IntArray
    pooled: bool
    rounded: bool = False

    def __post_init__(self) -> None:
        if self.width.size == 0 or np.any(np.diff(self.width) <= 0) or self.width[0] < 1:
            raise ValueError(f"precision: widths must ascend from 1, got {self.width.tolist()}")
        if self.units.shape != self.width.shape or np.any(self.units < 1):
            raise ValueError(f"precision: units must be positive, one per width, got {self.units}")
        if np.any(self.deviation[1:] > self.deviation[:-1]):
            raise ValueError("precision: a wider vector must not deviate more than a narrower one")

    def check(self, helpers: int, experts: int) -> None:
        """Raise ValueError if its shapes do not fit these numbers of helpers and experts."""
        table = (self.width.size, experts, experts + 1)
        for name, shape in (
            ("deviation", table),
            ("scale", table),
            ("known", (helpers, self.width.size)),
        ):
            got = getattr(self, name).shape
            if got != shape:
                raise ValueError(f"precision: {name} must have shape {shape}, got {got}")

    @property
    def num_widths(self) -> int:
        """B."""
        return int(self.width.size)

    @property
    def num_resources(self) -> int:
        """Rows R of the energy table."""
        helpers = len(self.known)
        return helpers if self.pooled else helpers * self.num_widths

    @property
    def most_units(self) -> int:
        """Units of a token at the greatest width."""
        return int(self.units.max())

    @property
    def helper(self) -> IntArray:
        """Helper of each way, (H,)."""
        return np.repeat(np.arange(len(self.known)), self.num_widths)

    @property
    def way_width(self) -> IntArray:
        """Width of each way, (H,)."""
        return np.tile(self.width, len(self.known))

    @property
    def way_units(self) -> IntArray:
        """Units of a token by each way, (H,)."""
        return np.tile(self.units, len(self.known))

    @property
    def resource(self) -> IntArray:
        """Row of the energy table that each way uses, (H,)."""
        ways = np.arange(len(self.known) * self.num_widths)
        return ways // self.num_widths if self.pooled else ways

    def way_of(self, helper: IntArray, width: IntArray) -> IntArray:
        """Way of each slot, from its helper and width; -1 where it is not sent."""
        way = helper * self.num_widths + np.searchsorted(self.width, width)
        return np.where((helper >= 0) & (width > 0), way, -1)

    def at(
        self, table: FloatArray, routed: IntArray, expert: IntArray, width: IntArray
    ) -> FloatArray:
        """Look up ``deviation`` or ``scale`` of slots sent at a width, (T, K) each."""
        row = np.searchsorted(self.width, np.maximum(width, self.width[0]))
        found: FloatArray = table[row, routed, expert]
        return found
