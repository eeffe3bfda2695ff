r"""Energy of loads on the air: parameters of the interface, and price tables.

A batch of T tokens has one window of T times the token's deadline for the uplink of a layer and
another one for its downlink. A helper that is sent q of these tokens receives one burst that lasts
the whole window, at the least power that carries its bits:

.. math:: e_n(q) = \frac{\tau N_0 B}{g_n}\left(2^{q s / (B \tau)} - 1\right),
          \qquad \tau = T \cdot \text{deadline}

For a single token this is the operating point of SiftMoE (arXiv 2603.23888): s bits over B hertz
in one deadline. That a batch shares the sum of its tokens' deadlines is this project's choice.

With a shared deadline there is one such window for uplink, compute and downlink together, divided
for every helper at least energy (`siftmoe.coordinator.energy.roundtrip`).

If a policy may choose among several widths, loads are counted as
`siftmoe.coordinator.energy.pricing` describes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.energy.circuit import CircuitPower
from siftmoe.coordinator.energy.pricing import Pricing, pooled_pricing, separate_pricing
from siftmoe.coordinator.energy.roundtrip import OneWay, RoundTrip
from siftmoe.coordinator.energy.tables import uplink_energy_table
from siftmoe.coordinator.links.states import Direction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from siftmoe.coordinator.links.states import LinkStates

    FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class AirPrices:
    """Parameters of the transmission of hidden states, and the energy of loads.

    Parameters
    ----------
    payload_bits : int, bit
        Bits of one token's hidden state on its way to a helper, without what travels beside it.
    reply_bits : int or None, bit
        Bits of one token's vector on its way back; None: the same.
    width, reply_width : int, bit
        Bits of a vector's entry in either direction, as booked in the ledger; they must agree with
        ``payload_bits`` and ``reply_bits``.
    width_bits : mapping of int to int, bit
        Bits of a token's hidden state by the widths that a policy may choose from, ascending;
        empty where there is one width. ``payload_bits`` is then only a unit for comparison.
    reply_width_bits : mapping of int to int, bit
        Bits of a token's vector on its way back by the widths that a policy may choose from,
        ascending; empty where there is one width. ``reply_width`` is then that of plans which
        choose none.
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
        Uplink, compute and downlink share one deadline, divided at least priced energy; at a price
        of 0 helpers answer as fast as their power limit allows.
    circuit : CircuitPower
        Of both ends while a burst is on the air; bursts then end early where that costs less, and
        the prices contain it. None by default, as in the paper's setting.
    control : bool
        Whether bursts carry, and pay for, headers and what travels beside the vectors
        (`siftmoe.coordinator.air.control`). Not by default, as in the paper's setting.
    """

    payload_bits: int
    token_deadline_s: float
    tx_power_limit_w: float
    reply_bits: int | None = None
    width: int = 16
    reply_width: int = 16
    width_bits: Mapping[int, int] = field(default_factory=dict)
    reply_width_bits: Mapping[int, int] = field(default_factory=dict)
    compute_s_per_token: float = 0.0
    downlink_price: float = 0.0
    shared_window: bool = True
    deadline_shared: bool = False
    circuit: CircuitPower = field(default_factory=CircuitPower)
    control: bool = False

    def __post_init__(self) -> None:
        for name in ("payload_bits", "token_deadline_s", "tx_power_limit_w"):
            if not getattr(self, name) > 0:
                raise ValueError(f"air interface: {name} must be positive, got {self}")
        if self.downlink_price < 0 or self.compute_s_per_token < 0:
            raise ValueError(f"air interface: price and compute time cannot be negative: {self}")
        if len(self.width_bits) == 1 or list(self.width_bits) != sorted(self.width_bits):
            raise ValueError(f"air interface: width_bits must be several and ascend, got {self}")
        if list(self.reply_width_bits) != sorted(self.reply_width_bits):
            raise ValueError(f"air interface: reply_width_bits must ascend, got {self}")
        priced = self.shared_window and self.downlink_price > 0.0
        if self.width_bits and (self.deadline_shared or priced):
            raise ValueError(
                'widths are chosen (bits = "auto") with a window for each direction and no price '
                "of the downlink; leave out deadline_shared and downlink_price, or name one width"
            )
        if self.deadline_shared and self.circuit != CircuitPower():
            raise ValueError(
                "air interface: circuit power goes with a window for each direction; leave out "
                "deadline_shared, or the powers of the circuits"
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the vectors that helpers get: one, or several to choose from."""
        return tuple(self.width_bits) or (self.width,)

    @property
    def reply_widths(self) -> tuple[int, ...]:
        """Widths of the vectors that helpers send: one, or several to choose from."""
        return tuple(self.reply_width_bits) or (self.reply_width,)

    def bits_per_hertz(self, bandwidth_hz: float) -> float:
        """Spectral efficiency of a single token, bit/s/Hz."""
        return self.payload_bits / (bandwidth_hz * self.token_deadline_s)

    def window_s(self, tokens: int) -> float:
        """Airtime that a batch shares in one direction."""
        return tokens * self.token_deadline_s

    def pricing(self, links: LinkStates, tokens: int) -> Pricing:
        """Price every load of up to ``tokens`` tokens."""
        if not self.width_bits:
            return Pricing.of_one_width(self.energy_table(links, tokens))
        most = tokens if self.shared_window else min(tokens, 1)
        back = self._one_way_table(links, most, Direction.DOWN)
        if self.shared_window:
            return pooled_pricing(
                self._way(links, Direction.UP),
                width_bits=self.width_bits,
                tokens=tokens,
                window_s=self.window_s(max(tokens, 1)),
                reply_table_j=back,
                circuit_power_w=self.circuit.of(Direction.UP),
            )
        up = [
            self._one_way_table(links, most, Direction.UP, bits=bits)[:, -1]
            for bits in self.width_bits.values()
        ]
        answer = back[:, -1:]
        priced = np.where(np.isinf(answer), np.inf, 0.0)
        if self.downlink_price > 0.0:
            priced = self.downlink_price * answer
        return separate_pricing(np.stack(up, axis=1) + priced, tokens=tokens)

    def energy_table(self, links: LinkStates, tokens: int) -> FloatArray:
        """Price of every load on every helper, (N, T+1) J; infinite where it cannot be served.

        For vectors of one width.
        """
        most = tokens if self.shared_window else min(tokens, 1)
        if self.deadline_shared:
            table = self._round_trip(links, most).table(most).energy_j
        else:
            table = self._one_way_table(links, most, Direction.UP)
            back = self._one_way_table(links, most, Direction.DOWN)
            priced = table + self.downlink_price * back if self.downlink_price > 0.0 else table
            table = np.where(np.isinf(back), np.inf, priced)
        return table if self.shared_window else _linear(table, tokens)

    def bits(self, direction: Direction) -> int:
        """Bits of a token in a direction, where there is one width."""
        if direction is Direction.UP or self.reply_bits is None:
            return self.payload_bits
        return self.reply_bits

    def _one_way_table(
        self, links: LinkStates, tokens: int, direction: Direction, *, bits: int | None = None
    ) -> FloatArray:
        way = self._way(links, direction)
        return uplink_energy_table(
            max_load=tokens,
            payload_bits=self.bits(direction) if bits is None else bits,
            window_s=self.window_s(max(tokens, 1)),
            bandwidth_hz=way.bandwidth_hz,
            gain=way.gain,
            noise_psd=way.noise_psd,
            tx_power_limit_w=way.tx_power_limit_w,
            circuit_power_w=self.circuit.of(direction),
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
            uplink_bits=self.bits(Direction.UP),
            downlink_bits=self.bits(Direction.DOWN),
            window_s=self.window_s(max(tokens, 1)),
            fixed_s=0.0,
            compute_s=np.full(links.num_links, self.compute_s_per_token),
            uplink=self._way(links, Direction.UP),
            downlink=self._way(links, Direction.DOWN),
            downlink_price=self.downlink_price,
        )


def _linear(table: FloatArray, tokens: int) -> FloatArray:
    """Extend the price of one token linearly to loads, (N, 2) to (N, T+1)."""
    linear = np.zeros((len(table), tokens + 1))
    linear[:, 1:] = table[:, 1:] * np.arange(1, tokens + 1)  # no 0 * inf
    return linear
