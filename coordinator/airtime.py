r"""From a plan's loads to bursts on the air: window, rate, power, energy.

A batch of T tokens has one window of T times the token's deadline for the uplink of a layer and
another one for its downlink. A helper that is sent q of these tokens receives one burst that lasts
the whole window, at the least power that carries its bits:

.. math:: e_n(q) = \frac{\tau N_0 B}{g_n}\left(2^{q s / (B \tau)} - 1\right),
          \qquad \tau = T \cdot \text{deadline}

For a single token this is the operating point of SiftMoE (arXiv 2603.23888): s bits over B hertz
in one deadline. That a batch shares the sum of its tokens' deadlines is this project's choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.energy import uplink_energy_table
from siftmoe.radio.link import transmit_energy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.links import LinkStates

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


class Direction(str, Enum):
    """Uplink: user to helper. Downlink: helper to user."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bursts:
    """The bursts of one layer in one direction, one per helper with a load.

    Parameters
    ----------
    direction : Direction
    helper : (m,) int64
    tokens : (m,) int64
    payload_bits, tx_power_w, airtime_s, energy_j, rate_bps : (m,) float64
    window_s : float, s
        Time that the layer has for this direction, whoever transmits.
    """

    direction: Direction
    helper: IntArray
    tokens: IntArray
    payload_bits: FloatArray
    tx_power_w: FloatArray
    airtime_s: FloatArray
    energy_j: FloatArray
    rate_bps: FloatArray
    window_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AirInterface:
    """How hidden states travel.

    Parameters
    ----------
    payload_bits : int, bit
        Bits of one token's hidden state, one direction. Routing indices and weights that travel
        beside it are control traffic and not counted.
    token_deadline_s : float, s
        Airtime that a token's transmission may take, one direction.
    tx_power_limit_w : float, W
        Power limit of either side.
    compute_s_per_token : float, s
        Nominal compute time of a token on a helper, for the latency on the virtual clock.
    downlink_price : float
        Price of a helper's joule in the selection; 0 counts only the user's.
    shared_window : bool
        A batch shares the sum of its tokens' deadlines. Otherwise every token is sent within a
        deadline of its own, and the energy is linear in the load.
    """

    payload_bits: int
    token_deadline_s: float
    tx_power_limit_w: float
    compute_s_per_token: float = 0.0
    downlink_price: float = 0.0
    shared_window: bool = True

    def __post_init__(self) -> None:
        for name in ("payload_bits", "token_deadline_s", "tx_power_limit_w"):
            if not getattr(self, name) > 0:
                raise ValueError(f"air interface: {name} must be positive, got {self}")
        if self.downlink_price < 0 or self.compute_s_per_token < 0:
            raise ValueError(f"air interface: price and compute time cannot be negative: {self}")

    def bits_per_hertz(self, bandwidth_hz: float) -> float:
        """Spectral efficiency of a single token, bit/s/Hz."""
        return self.payload_bits / (bandwidth_hz * self.token_deadline_s)

    def window_s(self, tokens: int) -> float:
        """Airtime that a batch shares in one direction."""
        return tokens * self.token_deadline_s

    def energy_table(self, links: LinkStates, tokens: int) -> FloatArray:
        """Price of every load on every helper, (N, T+1) J; infinite where it cannot be served."""
        table = self._table(links, tokens, Direction.UP)
        back = self._table(links, tokens, Direction.DOWN)
        if self.downlink_price > 0.0:
            return table + self.downlink_price * back
        return np.where(np.isinf(back), np.inf, table)

    def _table(self, links: LinkStates, tokens: int, direction: Direction) -> FloatArray:
        table = uplink_energy_table(
            max_load=tokens if self.shared_window else 1,
            payload_bits=self.payload_bits,
            window_s=self.window_s(tokens if self.shared_window else 1),
            bandwidth_hz=links.bandwidth_hz,
            gain=_gain(links, direction),
            noise_psd=links.noise_psd,
            tx_power_limit_w=np.full(len(links.bandwidth_hz), self.tx_power_limit_w),
        )
        if self.shared_window:
            return table
        linear = np.zeros((len(table), tokens + 1))
        linear[:, 1:] = table[:, 1:] * np.arange(1, tokens + 1)  # no 0 * inf
        return linear

    def bursts(
        self, loads: IntArray, links: LinkStates, *, tokens: int, direction: Direction
    ) -> Bursts:
        """Put given loads on the air.

        Parameters
        ----------
        loads : (N,) int64
            Tokens per helper.
        links : LinkStates
        tokens : int
            Size of the batch, which sets the window.
        direction : Direction
        """
        helper = np.flatnonzero(loads)
        count = loads[helper]
        share = np.full(len(helper), tokens) if self.shared_window else count
        window: FloatArray = share.astype(np.float64) * self.token_deadline_s
        bits: FloatArray = count.astype(np.float64) * self.payload_bits
        energy = transmit_energy(
            payload_bits=bits,
            airtime_s=window,
            bandwidth_hz=links.bandwidth_hz[helper],
            gain=_gain(links, direction)[helper],
            noise_psd=links.noise_psd[helper],
        )
        return Bursts(
            direction=direction,
            helper=helper,
            tokens=count,
            payload_bits=bits,
            tx_power_w=energy / window,
            airtime_s=window,
            energy_j=energy,
            rate_bps=bits / window,
            window_s=self.window_s(tokens),
        )

    def airtime_s(self, up: Bursts, down: Bursts) -> float:
        """Time on the air until the last helper is done, both directions."""
        return up.window_s + down.window_s if len(up.helper) else 0.0

    def latency_s(self, up: Bursts, down: Bursts) -> float:
        """Time until attention can go on: the slowest helper's uplink, compute and downlink."""
        if not len(up.helper):
            return 0.0
        compute_s = self.compute_s_per_token * float(up.tokens.max())
        return up.window_s + compute_s + down.window_s


def _gain(links: LinkStates, direction: Direction) -> FloatArray:
    return links.uplink_gain if direction is Direction.UP else links.downlink_gain
