r"""Choice among several widths of vectors, to helpers and back: deviation and energy of each.

A *way* is a helper, a width at which a token travels to it, and a width at which the answer travels
back. The ways of N helpers, B widths up and V widths back are numbered
:math:`h = (n B + b) V + v`, so that the ways of a helper lie side by side. A policy treats them as
separate helpers with the same experts, the deviations of those widths, and loads of that size. Two
ways to one helper never help a token: the wider of both directions alone deviates no more than
either and costs less than both.

The deviation of a way adds the rounding of the answer to that of serving by an expert,

.. math:: D_{b,v}(i, j) = D_b(i, j) + \rho_v A_b(i, j)

where :math:`A_b` is what returns of slot i: its exact output's :math:`D_{i0}` (the deviation of a
skip), or, where stand-ins have a least-squares factor, :math:`D_{i0} - D_b(i, j)`: the residual of
a least-squares fit is orthogonal to what it fits. So the best expert of a helper does not depend on
the width of the answer.

Loads add up either in *pooled* windows, one per helper and direction, where a token counts as many
units of payload as its widths have, :math:`e^u_n(\sum_t u_{b_t}) + e^d_n(\sum_t u_{v_t})`, or by
way, where every token has a window of its own and a way costs the same for each.
docs/explanation/theory.md, section 8: our derivation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.energy.pricing import Pricing

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Replies:
    """The widths of answers that a selection chooses from.

    Parameters
    ----------
    width : (V,) int64, bit
        Ascending.
    noise : (V,) float64
        Share of what returns that its rounding adds to the deviation; never more at a greater
        width, at most 1.
    known : (N, V) bool
        Which helper can answer in which width.
    units : (V,) int64
        Columns of the energy table that an answer of each width occupies.
    fitted : bool
        Whether stand-ins have least-squares factors, so that what returns has no residual.
    """

    width: IntArray
    noise: FloatArray
    known: BoolArray
    units: IntArray
    fitted: bool = True

    def __post_init__(self) -> None:
        _check_widths(self.width, self.units, what="widths of answers")
        size = self.width.size
        if self.noise.shape != (size,) or self.known.shape[1:] != (size,):
            raise ValueError(
                f"precision: {size} widths of answers need as many noise shares and columns of "
                f"known, got shapes {self.noise.shape} and {self.known.shape}"
            )
        falling = np.all(np.diff(self.noise) <= 0.0)
        if not (falling and np.all((self.noise >= 0.0) & (self.noise <= 1.0))):
            raise ValueError(
                f"precision: noise of answers must lie in [0, 1] and not grow with the width, got "
                f"{self.noise.tolist()}"
            )

    @classmethod
    def exact(cls, helpers: int, *, width: int = 16, units: int = 1) -> Replies:
        """Answers of one width without noise of their own, which every helper knows."""
        return cls(
            width=np.array([width]),
            noise=np.zeros(1),
            known=np.ones((helpers, 1), dtype=bool),
            units=np.array([units]),
        )


@dataclass(frozen=True, kw_only=True)
class Precision:
    """The widths that a selection chooses from.

    Parameters
    ----------
    width : (B,) int64, bit
        To helpers, ascending.
    deviation : (B, E, E+1) float64
        As ``SelectionProblem.deviation``, for vectors of each width and exact answers; never more
        at a greater one.
    scale : (B, E, E+1) float64
    known : (N, B) bool
        Which helper supports which width.
    units : (B,) int64
        Columns of the energy table that a token of each width occupies.
    pooled : bool
        Whether the energy table has a row for each helper's requests and one for its answers (2 N
        rows, requests first), or one for each way (N * B * V rows).
    replies : Replies
        Widths of answers; one is a choice of one.
    rounded : bool
        Whether units are rounded up, so that energies are inexact and lower bounds invalid.
    joint : bool
        Whether a way's energy is not the sum of one for its request and one for its answer (they
        share a deadline); a token must then have at most one way to a helper.
    """

    width: IntArray
    deviation: FloatArray
    scale: FloatArray
    known: BoolArray
    units: IntArray
    pooled: bool
    replies: Replies
    rounded: bool = False
    joint: bool = False

    def __post_init__(self) -> None:
        _check_widths(self.width, self.units, what="widths")
        if np.any(self.deviation[1:] > self.deviation[:-1]):
            raise ValueError("precision: a wider vector must not deviate more than a narrower one")
        if self.joint and self.pooled:
            raise ValueError("precision: pooled windows are one for each direction, not joint")

    def priced(self, pricing: Pricing) -> Precision:
        """Return the same choice at other energies of loads."""
        return replace(
            self,
            units=pricing.units,
            replies=replace(self.replies, units=pricing.reply_units),
            pooled=pricing.pooled,
            rounded=pricing.rounded,
            joint=pricing.joint,
        )

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
        if len(self.replies.known) != helpers:
            raise ValueError(
                f"precision: answers are known of {len(self.replies.known)} helpers, not {helpers}"
            )

    @property
    def num_widths(self) -> int:
        """B, to helpers."""
        return int(self.width.size)

    @property
    def num_replies(self) -> int:
        """V, back from helpers."""
        return int(self.replies.width.size)

    @property
    def num_ways(self) -> int:
        """H."""
        return len(self.known) * self.num_widths * self.num_replies

    @property
    def num_resources(self) -> int:
        """Rows R of the energy table."""
        return 2 * len(self.known) if self.pooled else self.num_ways

    @property
    def most_units(self) -> int:
        """Units of a token at the greatest width of either direction."""
        return int(max(self.units.max(), self.replies.units.max())) if self.pooled else 1

    @cached_property
    def _grid(self) -> tuple[IntArray, IntArray, IntArray]:
        """Helper, and indices of the widths up and back, of each way, (H,) each."""
        shape = len(self.known), self.num_widths, self.num_replies
        helper, up, back = (index.reshape(-1) for index in np.indices(shape))
        return helper, up, back

    @property
    def helper(self) -> IntArray:
        """Helper of each way, (H,)."""
        return self._grid[0]

    @property
    def way_width(self) -> IntArray:
        """Width up of each way, (H,)."""
        return self.width[self._grid[1]]

    @property
    def way_reply(self) -> IntArray:
        """Width back of each way, (H,)."""
        return self.replies.width[self._grid[2]]

    @property
    def way_units(self) -> IntArray:
        """Units of a token by each way on what it draws on, (H, 2) or (H, 1)."""
        if not self.pooled:
            return np.ones((self.num_ways, 1), dtype=np.int64)
        _, up, back = self._grid
        return np.stack([self.units[up], self.replies.units[back]], axis=1)

    @property
    def resource(self) -> IntArray:
        """Rows of the energy table that each way draws on, (H, 2) or (H, 1)."""
        if not self.pooled:
            return np.arange(self.num_ways)[:, None]
        helper = self._grid[0]
        return np.stack([helper, len(self.known) + helper], axis=1)

    def way_of(self, helper: IntArray, width: IntArray, reply: IntArray | None) -> IntArray:
        """Way of each slot, from its helper and widths; -1 where it is not sent.

        ``reply`` None stands for the one width of answers that there is.
        """
        up = np.searchsorted(self.width, width)
        back = np.zeros_like(up)
        if reply is not None:
            back = np.searchsorted(self.replies.width, reply)
        way = (helper * self.num_widths + up) * self.num_replies + back
        return np.where((helper >= 0) & (width > 0), way, -1)

    def at(
        self, table: FloatArray, routed: IntArray, expert: IntArray, width: IntArray
    ) -> FloatArray:
        """Look up ``deviation`` or ``scale`` of slots sent at a width, (T, K) each."""
        row = np.searchsorted(self.width, np.maximum(width, self.width[0]))
        found: FloatArray = table[row, routed, expert]
        return found

    def returned(self, deviation: FloatArray, skip: FloatArray) -> FloatArray:
        """Return what comes back of a slot, in units of its deviation.

        Parameters
        ----------
        deviation : float64
            Of serving it with an exact answer.
        skip : float64
            Of skipping it; broadcastable.
        """
        if not self.replies.fitted:
            return np.broadcast_to(skip, deviation.shape)
        left = np.subtract(skip, deviation, out=np.zeros_like(deviation), where=deviation < np.inf)
        return np.maximum(left, 0.0)

    def reply_noise(self, reply: IntArray | None, shape: tuple[int, ...]) -> FloatArray:
        """Noise share of answers of given widths, of one shape."""
        if reply is None:
            return np.full(shape, self.replies.noise[0])
        widths = self.replies.width
        noise: FloatArray = self.replies.noise[
            np.searchsorted(widths, np.maximum(reply, widths[0]))
        ]
        return noise


def _check_widths(width: IntArray, units: IntArray, *, what: str) -> None:
    if width.size == 0 or np.any(np.diff(width) <= 0) or width[0] < 1:
        raise ValueError(f"precision: {what} must ascend from 1, got {width.tolist()}")
    if units.shape != width.shape or np.any(units < 1):
        raise ValueError(f"precision: units must be positive, one of each of the {what}: {units}")
