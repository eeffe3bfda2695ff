r"""One band for all helpers: who can be reached in it, and what a vector costs.

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

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.energy.one_band import OneBand

    FloatArray = NDArray[np.float64]
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
