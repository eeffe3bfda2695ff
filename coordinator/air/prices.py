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
`siftmoe.coordinator.energy.pricing` describes. Both directions have a price
(`siftmoe.coordinator.energy.objective`); a table of energies here is one of priced energies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.air.control import header_bits
from siftmoe.coordinator.energy.circuit import CircuitPower
from siftmoe.coordinator.energy.objective import Objective
from siftmoe.coordinator.energy.pricing import (
    PricedWay,
    Pricing,
    pooled_pricing,
    separate_pricing,
)
from siftmoe.coordinator.energy.roundtrip import OneWay, RoundTrip
from siftmoe.coordinator.links.states import Direction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from siftmoe.coordinator.links.states import LinkStates

    FloatArray = NDArray[np.float64]

_BOTH = (Direction.UP, Direction.DOWN)


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
    uplink_price, downlink_price : float
        Prices of the user's joule and of a helper's in the selection.
    price_circuits : bool
        Whether the selection, and the length of bursts, counts circuits.
    shared_window : bool
        A batch shares the sum of its tokens' deadlines. Otherwise every token is sent within a
        deadline of its own, and the energy is linear in the load.
    deadline_per_layer : bool
        The deadline is the window of a layer, whatever the batch; otherwise a batch of T tokens
        has T deadlines.
    deadline_shared : bool
        Uplink, compute and downlink share one deadline, divided at least priced energy; a direction
        whose energy has no price is as fast as its power limit allows.
    circuit : CircuitPower
        Of both ends while a burst is on the air; bursts end early where that costs less by the
        objective. None by default, as in the paper's setting.
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
    uplink_price: float = 1.0
    downlink_price: float = 1.0
    price_circuits: bool = True
    shared_window: bool = True
    deadline_per_layer: bool = False
    deadline_shared: bool = False
    circuit: CircuitPower = field(default_factory=CircuitPower)
    control: bool = False

    def __post_init__(self) -> None:
        _ = self.objective  # refuses its prices
        for name in ("payload_bits", "token_deadline_s", "tx_power_limit_w"):
            if not getattr(self, name) > 0:
                raise ValueError(f"air interface: {name} must be positive, got {self}")
        if not self.compute_s_per_token >= 0:
            raise ValueError(f"air interface: compute time cannot be negative: {self}")
        if len(self.width_bits) == 1 or list(self.width_bits) != sorted(self.width_bits):
            raise ValueError(f"air interface: width_bits must be several and ascend, got {self}")
        if list(self.reply_width_bits) != sorted(self.reply_width_bits):
            raise ValueError(f"air interface: reply_width_bits must ascend, got {self}")
        if self.deadline_per_layer and not self.shared_window:
            raise ValueError(
                "air interface: a deadline per layer is one window for the whole batch; leave out "
                "deadline_per_layer, or set shared_window"
            )
        if self.deadline_shared and self.width_choice and not self.shared_window:
            raise ValueError(
                "air interface: widths are chosen with a deadline that a batch shares, or with a "
                "window of its own for each token and direction; leave out deadline_shared, or "
                "set shared_window"
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
        return self.token_deadline_s * (1 if self.deadline_per_layer else tokens)

    @property
    def objective(self) -> Objective:
        """What the selection minimises."""
        return Objective(
            uplink_price=self.uplink_price,
            downlink_price=self.downlink_price,
            circuits=self.price_circuits,
        )

    @property
    def width_choice(self) -> bool:
        """Whether a policy chooses widths, of one direction or both."""
        return bool(self.width_bits or self.reply_width_bits)

    def circuit_power_w(self, direction: Direction) -> float:
        """Power of the circuits of a burst, priced as what it radiates; its length follows, W."""
        return self.objective.circuit_w(direction, self.circuit)

    def pricing(self, links: LinkStates, tokens: int) -> Pricing:
        """Price every load of up to ``tokens`` tokens."""
        if not self.width_choice:
            return Pricing.of_one_width(self.energy_table(links, tokens))
        if tokens == 1 or not self.shared_window:
            alone = self._token_energy(links, header=tokens == 1)
            return separate_pricing(alone, tokens=tokens, joint=self.deadline_shared)
        window_s = self.window_s(max(tokens, 1))
        if self.deadline_shared:
            return self.divided_pricing(links, tokens)
        return self._pooled(links, tokens, (window_s, window_s))

    def divided_pricing(
        self, links: LinkStates, tokens: int, loads: tuple[FloatArray, FloatArray] | None = None
    ) -> Pricing:
        """Price loads that share a deadline, divided for every helper as is best for some loads.

        Parameters
        ----------
        links : LinkStates
        tokens : int
            T.
        loads : pair of (N,) float64, bit, or None
            Payload of each helper's requests and answers; None: half of the most, each way.
        """
        if loads is None:
            most = max(self.bits_by_width(Direction.UP).values())
            loads = (np.full(links.num_links, 0.5 * tokens * most),) * 2
        return self._pooled(links, tokens, self.round_trip(links, tokens).parts(*loads, tokens))

    def _pooled(
        self, links: LinkStates, tokens: int, window_s: Sequence[FloatArray | float]
    ) -> Pricing:
        return pooled_pricing(
            self._priced(links, Direction.UP),
            self._priced(links, Direction.DOWN),
            width_bits=self.bits_by_width(Direction.UP),
            reply_bits=self.bits_by_width(Direction.DOWN),
            tokens=tokens,
            window_s=window_s,
        )

    def energy_table(self, links: LinkStates, tokens: int) -> FloatArray:
        """Price of every load on every helper, (N, T+1) J; infinite where it cannot be served.

        For vectors of one width.
        """
        if tokens == 1 or not self.shared_window:
            alone = self._token_energy(links, header=tokens == 1)[:, 0, 0]
            table = np.zeros((len(alone), tokens + 1))
            table[:, 1:] = alone[:, None] * np.arange(1, tokens + 1)  # no 0 * inf
            return table
        if self.deadline_shared:
            return self.round_trip(links, tokens).table(tokens).energy_j
        return self._table(links, tokens, Direction.UP) + self._table(links, tokens, Direction.DOWN)

    def bits_by_width(self, direction: Direction) -> dict[int, int]:
        """Bits of a vector by the widths that it may have in a direction, ascending."""
        if direction is Direction.UP:
            return dict(self.width_bits) or {self.width: self.payload_bits}
        return dict(self.reply_width_bits) or {self.reply_width: self.bits(Direction.DOWN)}

    def _token_energy(self, links: LinkStates, *, header: bool) -> FloatArray:
        """Priced energy of a token alone in its window, (N, B, V) J.

        ``header``: with its messages' own headers, where control counts; those of a batch do not
        depend on a token.
        """
        up, down = (self._vector_bits(direction, header=header) for direction in _BOTH)
        if self.deadline_shared:
            return self.round_trip(links, 1).alone(up, down)
        each = [
            self._priced(links, direction).each(bits, window_s=self.window_s(1))
            for direction, bits in zip(_BOTH, (up, down), strict=True)
        ]
        return each[0][:, :, None] + each[1][:, None, :]

    def _vector_bits(self, direction: Direction, *, header: bool) -> FloatArray:
        more = header_bits(direction) if header and self.control else 0
        return np.array([bits + more for bits in self.bits_by_width(direction).values()], float)

    def _priced(self, links: LinkStates, direction: Direction) -> PricedWay:
        return PricedWay(
            way=self._way(links, direction),
            price=self.objective.price(direction, self.circuit),
            circuit_power_w=self.circuit_power_w(direction),
        )

    def _table(self, links: LinkStates, tokens: int, direction: Direction) -> FloatArray:
        """Priced energy of loads in one direction, (N, T+1) J, of one width."""
        return self._priced(links, direction).table(
            max_load=tokens,
            payload_bits=float(self.bits(direction)),
            window_s=self.window_s(max(tokens, 1)),
        )

    def bits(self, direction: Direction) -> int:
        """Bits of a token in a direction, where there is one width."""
        if direction is Direction.UP or self.reply_bits is None:
            return self.payload_bits
        return self.reply_bits

    def _way(self, links: LinkStates, direction: Direction) -> OneWay:
        return OneWay(
            bandwidth_hz=links.bandwidth_hz,
            gain=links.gain(direction),
            noise_psd=links.receiver_noise_psd(direction),
            tx_power_limit_w=np.full(links.num_links, self.tx_power_limit_w),
        )

    def round_trip(self, links: LinkStates, tokens: int) -> RoundTrip:
        """Both directions of every link within the deadline that a batch shares."""
        return RoundTrip(
            uplink_bits=self.bits(Direction.UP),
            downlink_bits=self.bits(Direction.DOWN),
            window_s=self.window_s(max(tokens, 1)),
            fixed_s=0.0,
            compute_s=np.full(links.num_links, self.compute_s_per_token),
            uplink=self._way(links, Direction.UP),
            downlink=self._way(links, Direction.DOWN),
            uplink_price=self.objective.uplink_price,
            downlink_price=self.objective.downlink_price,
        )
