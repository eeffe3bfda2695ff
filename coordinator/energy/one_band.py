"""One band for all: bursts that follow each other in one window, over links that share it.

The window is divided by `siftmoe.coordinator.energy.window`. Own derivation:
docs/explanation/theory.md, section 9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.coordinator.energy.window import (
    WINDOW_SLACK,
    alone_energies,
    bit_cost,
    divide_each,
    divide_window,
)
from siftmoe.radio.channel.link import MAX_BITS_PER_HERTZ

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

_LN2: Final = math.log(2.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Divided:
    """A window divided among payloads.

    Parameters
    ----------
    price_w : float, W
        Of airtime; infinite where the payloads do not fit.
    airtime_s, radiated_j, circuit_j : (N,) float64, s, J, J
        0 for no payload.
    """

    price_w: float
    airtime_s: FloatArray
    radiated_j: FloatArray
    circuit_j: FloatArray

    @property
    def energy_j(self) -> float:
        """All of it, J; infinite where the payloads do not fit."""
        if math.isinf(self.price_w):
            return math.inf
        return float((self.radiated_j + self.circuit_j).sum())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OneBand:
    """One direction of a medium that all helpers share, in one window.

    Parameters
    ----------
    bandwidth_hz, window_s : float, Hz, s
    noise_w : (N,) float64, W
        Noise power over gain of each link, N0 B / g; infinite where there is none.
    tx_power_limit_w : float, W
        Of what is radiated; may be infinite.
    circuit_w : (N,) float64, W
        Of the circuits of all ends of a burst over each link, priced as what it radiates.
    price : float
        Of a joule; positive.

    Raises
    ------
    ValueError
        If a figure is not what is stated here.
    """

    bandwidth_hz: float
    window_s: float
    noise_w: FloatArray
    tx_power_limit_w: float
    circuit_w: FloatArray
    price: float = 1.0

    def __post_init__(self) -> None:
        for name in ("bandwidth_hz", "window_s", "price"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"one band: {name} must be positive and finite, got {getattr(self, name)}"
                )
        if not self.tx_power_limit_w >= 0.0:
            raise ValueError(
                f"one band: tx_power_limit_w must not be negative, got {self.tx_power_limit_w}"
            )
        if not np.all(self.noise_w > 0.0):
            raise ValueError(f"one band: noise_w must be positive, got {self.noise_w}")
        if self.circuit_w.shape != self.noise_w.shape or not np.all(
            (self.circuit_w >= 0.0) & (self.circuit_w < np.inf)
        ):
            raise ValueError(
                f"one band: circuit_w must be finite and not negative, one for each of the "
                f"{self.noise_w.size} links, got {self.circuit_w}"
            )

    @property
    def limit(self) -> FloatArray:
        """Greatest spectral efficiency of each link, (N,) bit/s/Hz; 0 where there is no link."""
        limit: FloatArray = np.log1p(self.tx_power_limit_w / self.noise_w) / _LN2
        return np.minimum(np.where(np.isfinite(self.noise_w), limit, 0.0), MAX_BITS_PER_HERTZ)

    def carries(self, bits: float) -> NDArray[np.bool_]:
        """Which links carry so many bits, alone in the window, (N,)."""
        most = self.limit * self.bandwidth_hz * self.window_s
        able: NDArray[np.bool_] = (most > 0.0) & (bits <= most * (1.0 + WINDOW_SLACK))
        return able

    def divide(self, bits: FloatArray) -> Divided:
        """Divide the window among payloads, (N,) bit, at least energy."""
        hertz_s = np.ascontiguousarray(bits / self.bandwidth_hz, dtype=np.float64)
        price, airtime = divide_window(
            hertz_s, self.noise_w, self.circuit_w, self.limit, self.window_s
        )
        return _divided(price, hertz_s, airtime, self.noise_w, self.circuit_w)

    def divide_each(self, group: IntArray, link: IntArray, bits: FloatArray) -> Divided:
        """Divide a window of each group among its payloads.

        Parameters
        ----------
        group, link : (m,) int64
            Of each payload; groups ascend.
        bits : (m,) float64, bit

        Returns
        -------
        Divided
            Of each payload, (m,); its price is 0 where all fit.
        """
        hertz_s = np.ascontiguousarray(bits / self.bandwidth_hz, dtype=np.float64)
        noise, circuit = self.noise_w[link], self.circuit_w[link]
        airtime, fits = divide_each(group, hertz_s, noise, circuit, self.limit[link], self.window_s)
        return _divided(0.0 if fits else math.inf, hertz_s, airtime, noise, circuit)

    def alone_j(self, bits: float) -> FloatArray:
        """Least energy of so many bits alone in the window over each link, (N,) J."""
        return alone_energies(
            bits / self.bandwidth_hz, self.noise_w, self.circuit_w, self.limit, self.window_s
        )

    def bit_costs(self, price_w: float) -> tuple[FloatArray, FloatArray]:
        """Priced cost and airtime of a bit over each link at a price on airtime.

        Returns
        -------
        cost : (N,) float64, J/bit
            Infinite where there is no link.
        airtime : (N,) float64, s/bit
        """
        cost, airtime = np.empty(self.noise_w.size), np.zeros(self.noise_w.size)
        for n, (noise, limit) in enumerate(zip(self.noise_w, self.limit, strict=True)):
            each, x = bit_cost(noise, limit, price_w + self.circuit_w[n])
            cost[n] = self.price * each / self.bandwidth_hz
            airtime[n] = 1.0 / (self.bandwidth_hz * x) if x > 0.0 else np.inf
        return cost, airtime


def by_link(link: IntArray, values: FloatArray, links: int) -> FloatArray:
    """Add up values of payloads by the link that each goes over, (N,)."""
    total: FloatArray = np.zeros(links)
    np.add.at(total, link, values)
    return total


def _divided(
    price: float,
    hertz_s: FloatArray,
    airtime: FloatArray,
    noise_w: FloatArray,
    circuit_w: FloatArray,
) -> Divided:
    if math.isinf(price):
        nothing = np.zeros_like(hertz_s)
        return Divided(price_w=price, airtime_s=nothing, radiated_j=nothing, circuit_j=nothing)
    x = np.divide(hertz_s, airtime, out=np.zeros_like(hertz_s), where=airtime > 0.0)
    power = np.where(airtime > 0.0, noise_w, 0.0) * np.expm1(_LN2 * x)
    return Divided(
        price_w=price,
        airtime_s=airtime,
        radiated_j=airtime * power,
        circuit_j=airtime * circuit_w,
    )
