"""Options of tokens that share a window: what each sends, over which link, at which value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.energy.one_band import by_link

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.energy.one_band import OneBand

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Options:
    """Options of every token; the first sends nothing.

    Parameters
    ----------
    value : (T, O) float64, J
        Without the window's energy; infinite where a token must not take the option.
    link : (O,) int64
        Link that its vector is sent over; anything for the first.
    bits : (O,) float64, bit
        0 for the first.
    """

    value: FloatArray
    link: IntArray
    bits: FloatArray

    def payload(self, choice: IntArray, links: int) -> FloatArray:
        """Bits over every link, (N,)."""
        return by_link(self.link[choice], self.bits[choice], links)

    def objective(self, choice: IntArray, band: OneBand) -> float:
        """Value of a choice and the priced energy of its window, J."""
        spent = band.divide(self.payload(choice, band.noise_w.size)).energy_j
        return float(self.value[np.arange(len(choice)), choice].sum()) + band.price * spent


def option_costs(options: Options, band: OneBand, price_w: float) -> tuple[FloatArray, FloatArray]:
    """Cost, J, and airtime, s, of every option at a price on airtime, (O,) each."""
    per_bit, airtime = band.bit_costs(price_w)
    sent = options.bits > 0.0
    cost = np.where(sent, options.bits * per_bit[options.link], 0.0)
    seconds = np.zeros(len(cost))
    seconds[sent] = options.bits[sent] * airtime[options.link[sent]]
    return cost, seconds
