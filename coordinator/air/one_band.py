r"""Air interface where all helpers share one band: broadcast, or unicast by time division.

The user has one transmitter and one band of ``bandwidth_hz``; so have the helpers together for
their answers, on another carrier. The bursts of a direction follow each other in its window of T
token deadlines, which is divided among them at least energy
(`siftmoe.coordinator.energy.one_band`). With a broadcast uplink a token is sent once, for the worst
of the helpers that it is meant for, and all helpers with a link no worse hear it: the tokens of one
threshold are one burst. By time division each helper is sent its tokens apart, the honest baseline
of one band. Answers follow each other in either case: no two helpers have the same ones.

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
from siftmoe.coordinator.energy.one_band import OneBand
from siftmoe.coordinator.energy.pricing import Pricing
from siftmoe.coordinator.links.states import Direction
from siftmoe.coordinator.selection.on_air import answers, requests

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
        If an option has no meaning here: a deadline that both directions share, or a window for
        each token.
    """

    broadcast: bool

    def __post_init__(self) -> None:
        AirInterface.__post_init__(self)
        if self.deadline_shared or not self.shared_window:
            raise ValueError(
                'one band for all helpers (uplink = "broadcast" or "tdma") has one window per '
                "batch and direction; leave out deadline_shared and windows of single tokens, or "
                'name uplink = "unicast"'
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
        bits, back = (
            dict(zip(self.bits_by_width(way), self._vector_bits(way, header=header), strict=True))
            for way in (Direction.UP, Direction.DOWN)
        )
        down = self.band(links, Direction.DOWN, tokens=tokens)
        free = self.objective.price(Direction.DOWN, self.circuit) == 0.0
        if free and _always_fits(down, max(back.values()) * tokens * links.num_links):
            down = None
        return Medium(
            broadcast=self.broadcast,
            up=self.band(links, Direction.UP, tokens=tokens),
            down=down,
            bits={b: float(size) for b, size in bits.items()},
            reply_bits={b: float(size) for b, size in back.items()},
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
            window_s=self.window_s(max(tokens, 1)),
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
        medium = self.medium(links, problem.num_tokens)
        load, back = self.loads_in_band(problem, plan, medium)
        return Transfer(
            plan=plan,
            up=self.burst_in_turn(load, links, tokens=problem.num_tokens, direction=Direction.UP),
            down=self.burst_in_turn(
                back, links, tokens=problem.num_tokens, direction=Direction.DOWN
            ),
        )

    def loads_in_band(
        self, problem: SelectionProblem, plan: SelectionPlan, medium: Medium
    ) -> tuple[Load, Load]:
        """Find the loads of each link in both directions; of a broadcast over the worst only."""
        control = np.zeros(problem.num_helpers), np.zeros(problem.num_helpers)
        if self.control:
            control = plan_control_bits(plan, problem.hosts, reply_width=self.reply_width)
            if self.broadcast:
                control = _riding(control[0], requests(medium, plan)[1], medium.up), control[1]
        sides = (
            (requests(medium, plan), Direction.UP),
            (answers(medium, plan), Direction.DOWN),
        )
        up, down = (
            self._load(helper, width, direction, beside)
            for ((_, helper, width), direction), beside in zip(sides, control, strict=True)
        )
        return up, down

    def _load(
        self, helper: IntArray, width: IntArray, direction: Direction, control: FloatArray
    ) -> Load:
        sizes = self.bits_by_width(direction)
        widths = list(sizes)
        at = np.searchsorted(widths, width)
        count = np.zeros((len(control), len(widths)), dtype=np.int64)
        np.add.at(count, (helper, at), 1)
        return Load(
            count=count,
            width=tuple(widths),
            bits=np.array(list(sizes.values()), dtype=np.float64),
            control=control,
        )

    def burst_in_turn(
        self, load: Load, links: LinkStates, *, tokens: int, direction: Direction
    ) -> Bursts:
        """Bursts of given loads, one after the other; arguments as of ``bursts``."""
        band = self.band(links, direction, tokens=tokens)
        bits = load.payload_bits
        divided = band.divide(bits)
        if math.isinf(divided.price_w):
            raise ValueError(
                f"loads of {bits.tolist()} bit {direction.value} do not fit one band of "
                f"{band.bandwidth_hz:g} Hz for {band.window_s:g} s at {band.tx_power_limit_w:g} W; "
                f"give more time, band or power"
            )
        helper = np.flatnonzero(bits > 0.0)
        airtime = divided.airtime_s[helper]
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
            tx_power_w=divided.radiated_j[helper] / airtime,
            airtime_s=airtime,
            energy_j=divided.radiated_j[helper],
            rate_bps=bits[helper] / airtime,
            control_bits=load.control[helper],
            circuit_tx_j=self.circuit.sender_w(direction) * airtime,
            circuit_rx_j=receivers * self.circuit.receiver_w(direction) * airtime,
            window_s=self.window_s(tokens),
            heard=heard,
        )


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
