r"""Air interface where all helpers share one band: broadcast, or unicast by time division.

The user has one transmitter and one band of ``bandwidth_hz``; so have the helpers together for
their answers, on another carrier. The bursts of a direction follow each other in its window of T
token deadlines, which is divided among them at least energy
(`siftmoe.coordinator.energy.one_band`); with ``shared_window`` false every token has a window of
one deadline, and what is sent of it shares that. With a broadcast uplink a token is sent once, for
the worst of the helpers that it is meant for, and all helpers with a link no worse hear it: the
tokens of one threshold are one burst. By time division each helper is sent its tokens apart, the
honest baseline of one band. Answers follow each other in either case: no two helpers have the same
ones.

Control bits (`siftmoe.coordinator.air.control`) are each helper's own, and ride in the burst of the
best link that it hears. Whoever hears a burst receives for as long as it lasts. Own choice:
docs/explanation/theory.md, section 9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siftmoe.coordinator.air.bursts import Bursts, Load, Transfer
from siftmoe.coordinator.air.control import plan_control_bits
from siftmoe.coordinator.air.interface import AirInterface
from siftmoe.coordinator.energy.medium import Medium
from siftmoe.coordinator.energy.one_band import OneBand, by_link
from siftmoe.coordinator.energy.pricing import Pricing
from siftmoe.coordinator.links.states import Direction
from siftmoe.coordinator.selection.on_air import answers, requests, vector_bits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.energy.circuit import CircuitPower
    from siftmoe.coordinator.links.states import LinkStates
    from siftmoe.coordinator.selection.policy import Policy
    from siftmoe.coordinator.selection.problem import SelectionPlan, SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

#: Price of energy that has none, so that windows are still divided.
_NEXT_TO_NOTHING: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class OneBandAir(AirInterface):
    """Transmits plans in one band.

    Parameters
    ----------
    broadcast : bool
        Whether all helpers hear every request. Otherwise unicast by time division.

    Raises
    ------
    ValueError
        If both directions are to share a deadline, which has no meaning here.
    """

    broadcast: bool

    def __post_init__(self) -> None:
        AirInterface.__post_init__(self)
        if self.deadline_shared:
            raise ValueError(
                'one band for all helpers (uplink = "broadcast" or "tdma") has a window for each '
                'direction; leave out deadline_shared, or name uplink = "unicast"'
            )

    @classmethod
    def over(cls, air: AirInterface, *, broadcast: bool) -> OneBandAir:
        """Make an air interface of these parameters in one band."""
        values: dict[str, Any] = {part.name: getattr(air, part.name) for part in fields(air)}
        return cls(**values, broadcast=broadcast)

    def pricing(self, links: LinkStates, tokens: int) -> Pricing:
        """Price loads at usual prices of airtime, and name the band."""
        medium = self.medium(links, tokens)
        return Pricing(
            energy_j=medium.linear_table(tokens),
            units=np.ones(len(medium.bits), dtype=np.int64),
            reply_units=np.ones(len(medium.reply_bits), dtype=np.int64),
            pooled=False,
            medium=medium,
        )

    def medium(self, links: LinkStates, tokens: int) -> Medium:
        """Band of a batch of this size."""
        header = tokens == 1
        together = tokens if self.shared_window else 1
        bits, back = (
            dict(zip(self.bits_by_width(way), self._vector_bits(way, header=header), strict=True))
            for way in (Direction.UP, Direction.DOWN)
        )
        down: OneBand | None
        down = self.band(links, Direction.DOWN, tokens=tokens)
        free = self.objective.price(Direction.DOWN, self.circuit) == 0.0
        if free and _always_fits(down, max(back.values()) * together * links.num_links):
            down = None
        return Medium(
            broadcast=self.broadcast,
            up=self.band(links, Direction.UP, tokens=tokens),
            down=down,
            bits={b: float(size) for b, size in bits.items()},
            reply_bits={b: float(size) for b, size in back.items()},
            apart=not self.shared_window,
        )

    def band(self, links: LinkStates, direction: Direction, *, tokens: int) -> OneBand:
        """One direction of the band.

        Raises
        ------
        ValueError
            If the links have different bandwidths.
        """
        bandwidth = links.bandwidth_hz
        if np.any(bandwidth != bandwidth[0]):
            raise ValueError(
                f"all helpers share one band, and their links have {sorted(set(bandwidth))} Hz; "
                f'give them the same bandwidth, or name uplink = "unicast"'
            )
        noise = links.receiver_noise_psd(direction) * bandwidth / links.gain(direction)
        noise = np.where(links.available(), noise, np.inf)
        receivers = self._receivers(noise) if direction is Direction.UP else np.ones(len(noise))
        circuits = [_with_receivers(self.circuit, direction, count) for count in receivers]
        return OneBand(
            bandwidth_hz=float(bandwidth[0]),
            window_s=self.window_s(max(tokens, 1) if self.shared_window else 1),
            noise_w=noise,
            tx_power_limit_w=self.tx_power_limit_w,
            circuit_w=np.array([self.objective.circuit_w(direction, c) for c in circuits]),
            price=self.objective.price(direction, self.circuit) or _NEXT_TO_NOTHING,
        )

    def _receivers(self, noise_w: FloatArray) -> IntArray:
        """Count the helpers that receive a request meant for each link, (N,)."""
        if not self.broadcast:
            return np.ones(len(noise_w), dtype=np.int64)
        counts: IntArray = (noise_w[None, :] <= noise_w[:, None]).sum(axis=1)
        return counts

    def transfer(
        self, problem: SelectionProblem, plan: SelectionPlan, links: LinkStates, *, policy: Policy
    ) -> Transfer:
        """Bursts of a plan in both directions; arguments as of ``AirInterface``.

        Raises
        ------
        ValueError
            If the plan does not fit a window within the power limit.
        """
        del policy
        tokens = problem.num_tokens
        medium = self.medium(links, tokens)
        control = np.zeros(problem.num_helpers), np.zeros(problem.num_helpers)
        sent, back = requests(medium, plan), answers(medium, plan)
        if self.control:
            control = plan_control_bits(plan, problem.hosts, reply_width=self.reply_width)
            if self.broadcast:
                control = _riding(control[0], sent[1], medium.up), control[1]
        up, down = (
            self.burst_in_turn(vectors, beside, links, tokens=tokens, direction=direction)
            for vectors, beside, direction in (
                (sent, control[0], Direction.UP),
                (back, control[1], Direction.DOWN),
            )
        )
        return Transfer(plan=plan, up=up, down=down)

    def burst_in_turn(
        self,
        vectors: tuple[IntArray, IntArray, IntArray],
        control: FloatArray,
        links: LinkStates,
        *,
        tokens: int,
        direction: Direction,
    ) -> Bursts:
        """Bursts of given vectors, one link after the other.

        Parameters
        ----------
        vectors : (token, helper, width), (m,) int64 each
            By ascending token.
        control : (N,) float64, bit
            Beside the vectors over each link.
        links : LinkStates
        tokens : int
            Size of the batch, which sets the window.
        direction : Direction

        Raises
        ------
        ValueError
            If they do not fit the window within the power limit.
        """
        band = self.band(links, direction, tokens=tokens)
        load = self._load(vectors, direction, control)
        bits = load.payload_bits
        airtime, radiated = self._divide(band, vectors, load)
        helper = np.flatnonzero(bits > 0.0)
        airtime, radiated = airtime[helper], radiated[helper]
        together = self.broadcast and direction is Direction.UP
        heard = (band.noise_w[None, :] <= band.noise_w[:, None])[helper] if together else None
        receivers = np.ones(len(helper)) if heard is None else heard.sum(axis=1)
        return Bursts(
            direction=direction,
            helper=helper,
            tokens=load.tokens[helper],
            missed=np.zeros_like(helper),
            by_width=load.count[helper],
            width=load.width,
            payload_bits=bits[helper],
            tx_power_w=radiated / airtime,
            airtime_s=airtime,
            energy_j=radiated,
            rate_bps=bits[helper] / airtime,
            control_bits=load.control[helper],
            circuit_tx_j=self.circuit.sender_w(direction) * airtime,
            circuit_rx_j=receivers * self.circuit.receiver_w(direction) * airtime,
            window_s=self.window_s(tokens),
            heard=heard,
        )

    def _load(
        self,
        vectors: tuple[IntArray, IntArray, IntArray],
        direction: Direction,
        control: FloatArray,
    ) -> Load:
        """Vectors over each link by width, with the control beside them."""
        _, helper, width = vectors
        sizes = self.bits_by_width(direction)
        count = np.zeros((len(control), len(sizes)), dtype=np.int64)
        np.add.at(count, (helper, np.searchsorted(list(sizes), width)), 1)
        return Load(
            count=count,
            width=tuple(sizes),
            bits=np.array(list(sizes.values()), dtype=np.float64),
            control=control,
        )

    def _divide(
        self, band: OneBand, vectors: tuple[IntArray, IntArray, IntArray], load: Load
    ) -> tuple[FloatArray, FloatArray]:
        """Airtime and radiated energy over each link, (N,) s and J."""
        bits = load.payload_bits
        if self.shared_window:
            divided = band.divide(bits)
            airtime, radiated = divided.airtime_s, divided.radiated_j
        else:  # every token bears an equal part of its link's control
            token, helper, width = vectors
            sizes = dict(zip(load.width, load.bits.tolist(), strict=True))
            share = load.control[helper] / load.tokens[helper]
            divided = band.divide_each(token, helper, vector_bits(width, sizes) + share)
            airtime, radiated = (
                by_link(helper, each, len(bits)) for each in (divided.airtime_s, divided.radiated_j)
            )
        if math.isinf(divided.price_w):
            raise ValueError(
                f"loads of {bits.tolist()} bit do not fit one band of {band.bandwidth_hz:g} Hz "
                f"for {band.window_s:g} s at {band.tx_power_limit_w:g} W; give more time, band or "
                f"power"
            )
        return airtime, radiated


def _always_fits(band: OneBand, bits: float) -> bool:
    """Whether the band carries so many bits over its worst link."""
    worst = np.zeros(len(band.noise_w))
    worst[int(np.where(np.isfinite(band.noise_w), band.noise_w, 0.0).argmax())] = bits
    return math.isfinite(band.divide(worst).price_w)


def _riding(control: FloatArray, worst: IntArray, band: OneBand) -> FloatArray:
    """Move each helper's control bits to the burst of the best link that it hears, (N,)."""
    moved = np.zeros_like(control)
    links = np.unique(worst)
    links = links[np.argsort(band.noise_w[links], kind="stable")]
    for n in np.flatnonzero(control):
        moved[links[np.searchsorted(band.noise_w[links], band.noise_w[n])]] += control[n]
    return moved


def _with_receivers(circuit: CircuitPower, direction: Direction, count: float) -> CircuitPower:
    """Circuits of a burst that so many receive."""
    if direction is Direction.UP:
        return replace(circuit, helper_rx_w=count * circuit.helper_rx_w)
    return replace(circuit, user_rx_w=count * circuit.user_rx_w)
