r"""From a plan's loads to bursts on the air: window, rate, power, energy.

A batch of T tokens has one window of T times the token's deadline for the uplink of a layer and
another one for its downlink. A helper that is sent q of these tokens receives one burst that lasts
the whole window, at the least power that carries its bits:

.. math:: e_n(q) = \frac{\tau N_0 B}{g_n}\left(2^{q s / (B \tau)} - 1\right),
          \qquad \tau = T \cdot \text{deadline}

For a single token this is the operating point of SiftMoE (arXiv 2603.23888): s bits over B hertz
in one deadline. That a batch shares the sum of its tokens' deadlines is this project's choice.

With a shared deadline there is one such window for uplink, compute and downlink together, and every
helper's is divided as costs least (`siftmoe.coordinator.roundtrip`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.bursts import Bursts, Direction, Transfer
from siftmoe.coordinator.energy import uplink_energy_table
from siftmoe.coordinator.roundtrip import OneWay, RoundTrip
from siftmoe.radio.link import transmit_energy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.links import LinkStates
    from siftmoe.coordinator.policies.registry import Policy
    from siftmoe.coordinator.selection import SelectionPlan, SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


__all__ = ["AirInterface", "Bursts", "Direction", "Transfer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AirInterface:
    """How hidden states travel.

    Parameters
    ----------
    payload_bits : int, bit
        Bits of one token's hidden state, one direction. Routing indices and weights that travel
        beside it are control traffic and not counted.
    token_deadline_s : float, s
        Airtime that a token's transmission may take, one direction; with ``deadline_shared``,
        time for both directions and the compute between them.
    tx_power_limit_w : float, W
        Power limit of either side.
    compute_s_per_token : float, s
        Nominal compute time of a token on a helper, for the latency on the virtual clock.
    downlink_price : float
        Price of a helper's joule in the selection; 0 counts only the user's.
    shared_window : bool
        A batch shares the sum of its tokens' deadlines. Otherwise every token is sent within a
        deadline of its own, and the energy is linear in the load.
    deadline_shared : bool
        Uplink, compute and downlink share one deadline, divided as costs least at the downlink's
        price; at no price helpers answer as fast as their power limit allows.
    width : int, bit
        Of an entry of a hidden state on its way to a helper.
    """

    payload_bits: int
    token_deadline_s: float
    tx_power_limit_w: float
    compute_s_per_token: float = 0.0
    downlink_price: float = 0.0
    shared_window: bool = True
    deadline_shared: bool = False
    width: int = 16

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
        most = tokens if self.shared_window else min(tokens, 1)
        if self.deadline_shared:
            table = self._round_trip(links, most).table(most).energy_j
        else:
            table = self._one_way_table(links, most, Direction.UP)
            back = self._one_way_table(links, most, Direction.DOWN)
            priced = table + self.downlink_price * back if self.downlink_price > 0.0 else table
            table = np.where(np.isinf(back), np.inf, priced)
        return table if self.shared_window else _linear(table, tokens)

    def _one_way_table(self, links: LinkStates, tokens: int, direction: Direction) -> FloatArray:
        way = self._way(links, direction)
        return uplink_energy_table(
            max_load=tokens,
            payload_bits=self.payload_bits,
            window_s=self.window_s(max(tokens, 1)),
            bandwidth_hz=way.bandwidth_hz,
            gain=way.gain,
            noise_psd=way.noise_psd,
            tx_power_limit_w=way.tx_power_limit_w,
        )

    def _way(self, links: LinkStates, direction: Direction) -> OneWay:
        return OneWay(
            bandwidth_hz=links.bandwidth_hz,
            gain=links.gain(direction),
            noise_psd=links.receiver_noise_psd(direction),
            tx_power_limit_w=np.full(links.num_links, self.tx_power_limit_w),
        )

    def _round_trip(self, links: LinkStates, tokens: int) -> RoundTrip:
        return RoundTrip(
            uplink_bits=self.payload_bits,
            downlink_bits=self.payload_bits,
            window_s=self.window_s(max(tokens, 1)),
            fixed_s=0.0,
            compute_s=np.full(links.num_links, self.compute_s_per_token),
            uplink=self._way(links, Direction.UP),
            downlink=self._way(links, Direction.DOWN),
            downlink_price=self.downlink_price,
        )

    def transfer(
        self, problem: SelectionProblem, plan: SelectionPlan, links: LinkStates, *, policy: Policy
    ) -> Transfer:
        """Put a plan on the air, both ways.

        Parameters
        ----------
        problem : SelectionProblem
            What the plan solves.
        plan : SelectionPlan
        links : LinkStates
        policy : callable
            Made the plan; an air whose channel changes on the way may ask it again.
        """
        del policy
        loads, tokens = plan.loads(problem.num_helpers), problem.num_tokens
        return Transfer(
            plan=plan,
            up=self.bursts(loads, links, tokens=tokens, direction=Direction.UP),
            down=self.bursts(loads, links, tokens=tokens, direction=Direction.DOWN),
        )

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

        Raises
        ------
        ValueError
            If a load does not fit the deadline that both directions share.
        """
        helper = np.flatnonzero(loads)
        count = loads[helper]
        airtime = self._airtimes(loads, links, tokens=tokens, direction=direction)[helper]
        bits: FloatArray = count.astype(np.float64) * self.payload_bits
        way = self._way(links, direction)
        energy = transmit_energy(
            payload_bits=bits,
            airtime_s=airtime,
            bandwidth_hz=way.bandwidth_hz[helper],
            gain=way.gain[helper],
            noise_psd=way.noise_psd[helper],
        )
        return Bursts(
            direction=direction,
            helper=helper,
            tokens=count,
            missed=np.zeros_like(count),
            payload_bits=bits,
            tx_power_w=energy / airtime,
            airtime_s=airtime,
            energy_j=energy,
            rate_bps=bits / airtime,
            window_s=self.window_s(tokens),
        )

    def _airtimes(
        self, loads: IntArray, links: LinkStates, *, tokens: int, direction: Direction
    ) -> FloatArray:
        """Airtime of every helper's load, (N,) s."""
        together = self.shared_window
        windows = np.ones(len(loads)) if together else loads.astype(np.float64)
        if not self.deadline_shared:
            return windows * self.window_s(tokens if together else 1)
        trip = self._round_trip(links, tokens if together else 1)
        both = trip.airtimes((loads if together else np.minimum(loads, 1))[:, None])  # [2, N, 1]
        if np.isnan(both).any():
            raise ValueError(f"loads {loads.tolist()} do not fit a deadline of {trip.window_s} s")
        airtime: FloatArray = windows * both[0 if direction is Direction.UP else 1, :, 0]
        return airtime

    def airtime_s(self, up: Bursts, down: Bursts) -> float:
        """Time on the air until the last helper is done, both directions."""
        if not len(up.helper):
            return 0.0
        if self.deadline_shared:
            return float((up.airtime_s + down.airtime_s).max())
        return up.window_s + down.window_s

    def latency_s(self, up: Bursts, down: Bursts) -> float:
        """Time until attention can go on: the slowest helper's uplink, compute and downlink."""
        if not len(up.helper):
            return 0.0
        if self.deadline_shared:
            return up.window_s
        compute_s = self.compute_s_per_token * float(up.tokens.max())
        return up.window_s + compute_s + down.window_s


def _linear(table: FloatArray, tokens: int) -> FloatArray:
    """Let every token of a load cost what one does, (N, 2) to (N, T+1)."""
    linear = np.zeros((len(table), tokens + 1))
    linear[:, 1:] = table[:, 1:] * np.arange(1, tokens + 1)  # no 0 * inf
    return linear
