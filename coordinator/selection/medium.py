r"""One band for all helpers: what a plan sends in it, and the energy of that.

With a *broadcast* uplink a token is sent once, for the worst of the helpers that it is meant for;
every helper with a link no worse hears it too. Without, it is sent to each of its helpers, one
after the other. Answers follow each other in a band of their own. All bursts of a direction share
its window (`siftmoe.coordinator.energy.one_band`). Own derivation: docs/explanation/theory.md,
section 9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.energy.one_band import OneBand
    from siftmoe.coordinator.selection.problem import SelectionPlan

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Medium:
    """The band of a layer's vectors.

    Parameters
    ----------
    broadcast : bool
        Whether all helpers hear a request; otherwise it is sent to each.
    up : OneBand
        Of requests. With a broadcast its ``circuit_w`` of a link counts all that hear it.
    down : OneBand or None
        Of answers; None: they are neither priced nor limited.
    bits, reply_bits : mapping of int to float, bit
        Of a vector by its width, ascending.
    """

    broadcast: bool
    up: OneBand
    down: OneBand | None
    bits: dict[int, float]
    reply_bits: dict[int, float]

    def __post_init__(self) -> None:
        for name in ("bits", "reply_bits"):
            sizes = getattr(self, name)
            if not sizes or list(sizes) != sorted(sizes) or not min(sizes.values()) > 0.0:
                raise ValueError(
                    f"medium: {name} must be positive, by ascending width, got {sizes}"
                )

    @property
    def num_helpers(self) -> int:
        """N."""
        return int(self.up.noise_w.size)

    @property
    def reachable(self) -> BoolArray:
        """Helpers that a token, alone, reaches at its least width, and that can answer, (N,)."""
        able = self.up.carries(min(self.bits.values()))
        if self.down is None:
            return able
        both: BoolArray = able & self.down.carries(min(self.reply_bits.values()))
        return both

    def sent(self, plan: SelectionPlan) -> tuple[IntArray, IntArray, IntArray]:
        """Transmissions of a plan's requests: token, the helper they are made for, and width.

        Raises
        ------
        ValueError
            If a token is broadcast at several widths: all hear the same vector.
        """
        token, helper, width, mixed = vectors(
            np.ascontiguousarray(plan.helper),
            np.ascontiguousarray(plan.width),
            self.up.noise_w,
            self.broadcast,
        )
        if mixed >= 0:
            raise ValueError(
                f"a plan broadcasts token {mixed} at several widths; one vector has one width for "
                f"all who hear it"
            )
        return token, helper, width

    def answers(self, plan: SelectionPlan) -> tuple[IntArray, IntArray, IntArray]:
        """Answers to a plan: token, helper and width."""
        only = next(iter(self.reply_bits))
        reply = np.full_like(plan.helper, only) if plan.reply_width is None else plan.reply_width
        token, helper, width, _ = vectors(
            np.ascontiguousarray(plan.helper),
            np.ascontiguousarray(reply),
            self.up.noise_w,
            False,
        )
        return token, helper, width

    def heard(self, plan: SelectionPlan) -> list[list[int]]:
        """Helpers that hear each token, ascending."""
        sets: list[list[int]] = [[] for _ in plan.helper]
        for token, helper, _ in zip(*self.sent(plan), strict=True):
            if self.broadcast:
                within = self.up.noise_w <= self.up.noise_w[helper]
                sets[token] = np.flatnonzero(within).tolist()
            else:
                sets[token].append(int(helper))
        return sets

    def payloads(self, plan: SelectionPlan) -> tuple[FloatArray, FloatArray]:
        """Bits of a plan over each link, up and down, (N,) each."""
        return (
            self._bits_by_link(self.sent(plan), self.bits),
            self._bits_by_link(self.answers(plan), self.reply_bits),
        )

    def _bits_by_link(
        self, sent: tuple[IntArray, IntArray, IntArray], sizes: dict[int, float]
    ) -> FloatArray:
        _, helper, width = sent
        at = np.searchsorted(list(sizes), width)
        if not np.array_equal(np.append(list(sizes), 0)[at], width):
            raise ValueError(f"a plan sends vectors of {np.unique(width)} bits, not {[*sizes]}")
        each = np.append(list(sizes.values()), 0.0)[at]
        bits: FloatArray = np.bincount(helper, weights=each, minlength=self.num_helpers)
        return bits

    def energy_j(self, plan: SelectionPlan) -> float:
        """Priced energy of a plan, J; infinite where it does not fit its windows."""
        total = (
            self.up.price * self.up.divide(self._bits_by_link(self.sent(plan), self.bits)).energy_j
        )
        if self.down is not None:
            down = self._bits_by_link(self.answers(plan), self.reply_bits)
            total += self.down.price * self.down.divide(down).energy_j
        return total

    def linear_costs(self, up_w: float, down_w: float) -> FloatArray:
        """Priced energy of a token by helper and widths, (N, B, V) J, at prices on airtime.

        Infinite where the helper is out of reach at that width.
        """
        up = _vector_costs(self.up, self.bits, up_w)
        if self.down is None:
            return np.repeat(up[:, :, None], len(self.reply_bits), axis=2)
        return up[:, :, None] + _vector_costs(self.down, self.reply_bits, down_w)[:, None, :]

    def answer_costs(self, down_w: float) -> FloatArray:
        """Priced energy of an answer by helper and width, (N, V) J, at a price on airtime."""
        if self.down is None:
            return np.zeros((self.num_helpers, len(self.reply_bits)))
        return _vector_costs(self.down, self.reply_bits, down_w)

    def linear_table(self, tokens: int) -> FloatArray:
        """Energy of loads by way at usual prices of airtime, (N * B * V, T+1) J."""
        each = self.linear_costs(*self.usual_prices(tokens)).reshape(-1, 1)
        table = np.zeros((len(each), tokens + 1))
        table[:, 1:] = each * np.arange(1, tokens + 1)  # no 0 * inf
        return table

    def usual_prices(self, tokens: int) -> tuple[float, float]:
        """Prices on airtime if every token were sent once over the middle link, W."""
        found = []
        for band, sizes in ((self.up, self.bits), (self.down, self.reply_bits)):
            if band is None:
                found.append(0.0)
                continue
            middle = np.zeros(self.num_helpers)
            middle[np.argsort(band.noise_w)[(self.num_helpers - 1) // 2]] = tokens * max(
                sizes.values()
            )
            price = band.divide(middle).price_w
            found.append(price if math.isfinite(price) else float(np.min(band.noise_w)))
        return found[0], found[1]


def _vector_costs(band: OneBand, sizes: dict[int, float], price_w: float) -> FloatArray:
    per_bit, _ = band.bit_costs(price_w)
    return np.stack(
        [np.where(band.carries(b), b * per_bit, math.inf) for b in sizes.values()], axis=1
    )


@compiled
def vectors(
    helper: IntArray, width: IntArray, noise_w: FloatArray, worst_only: bool
) -> tuple[IntArray, IntArray, IntArray, int]:
    """Vectors of a plan: token, helper and width of each; a token goes to a helper once at a width.

    ``worst_only``: of each token that to its worst link. Returns last the first token that this
    leaves at several widths, or -1.
    """
    tokens, slots = helper.shape
    found = np.empty((3, tokens * slots), np.int64)
    size, mixed = 0, -1
    for t in range(tokens):
        first = size
        for i in range(slots):
            n, b = helper[t, i], width[t, i]
            if n < 0:
                continue
            if worst_only and size > first:
                if b != found[2, first] and mixed < 0:
                    mixed = t
                if noise_w[n] > noise_w[found[1, first]]:
                    found[1, first] = n
                continue
            known = False
            for j in range(first, size):
                known = known or (found[1, j] == n and found[2, j] == b)
            if not known:
                found[0, size], found[1, size], found[2, size] = t, n, b
                size += 1
    return found[0, :size].copy(), found[1, :size].copy(), found[2, :size].copy(), mixed
