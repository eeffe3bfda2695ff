"""Air interface under fast fading: bursts sent slot by slot, late tokens lost to the model.

A burst's window spans M coherence blocks. The helper is chosen at its start, when the first block's
gain is known; then every block's gain becomes known as it begins, and the bits that go into it are
those of least expected energy-to-go (`siftmoe.coordinator.fading.energy_to_go`). A token that is
not delivered by the end of the window is missing from the layer's output: its slots are skipped,
and the energy used for it is spent. The window of a batch is the sum of its tokens'
deadlines; M counts blocks of that window, so the speed of the channel relative to the deadline
matters, not the size of the batch.

A single token, as in decoding, is selected again in every block: the policy solves the token's
problem with the remaining cost of each helper at each width, which is the energy-to-go of the bits
not received yet, and the token changes helpers where that costs less. A helper keeps the bits that
it received at a width until the window ends; they are used only if the token returns to it at that
width. The tokens of a batch share bursts and do not change helpers (docs/explanation/theory.md,
section 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.coordinator.air.delivery import Sent, lose, missing
from siftmoe.coordinator.air.interface import AirInterface, Bursts, Transfer
from siftmoe.coordinator.air.reselection import select_again
from siftmoe.coordinator.energy.pricing import Pricing, common_units, joined_tables
from siftmoe.coordinator.fading.energy_to_go import SlottedLink, energy_to_go
from siftmoe.coordinator.fading.gain_states import GainStates
from siftmoe.coordinator.links.states import Direction
from siftmoe.radio.channel.link import transmit_energy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.energy.pricing import Units
    from siftmoe.coordinator.fading.energy_to_go import EnergyToGo
    from siftmoe.coordinator.links.states import LinkStates
    from siftmoe.coordinator.selection.policy import Policy
    from siftmoe.coordinator.selection.problem import SelectionPlan, SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Number of gain states, and least number of grid points of a whole batch's payload.
_BINS = 48
_GRID = 384
#: Largest number of distinct loads of several widths; each needs a grid point for every state.
_MOST_LOADS = 1 << 15


@dataclass(frozen=True, slots=True, kw_only=True)
class SlottedAir(AirInterface):
    """An air interface whose channel changes within a burst.

    The downlink is sent at the gain of the window's start, and priced so.

    Parameters
    ----------
    slots : int
        Coherence blocks M of a window.
    outage_price : float
        Price of an undelivered token of ``payload_bits``, in units of the energy of one at the mean
        gain; for tokens of fewer bits in proportion to their bits.
    mean : LinkStates
        The links at their mean gains.
    rng : np.random.Generator
        Of the blocks after the first.
    selection : str
        Predicted cost of a load: its "energy-to-go", or its energy at the present gain
        ("current-gain") or at the mean gain ("mean-gain").
    reselect : bool
        Select a single token again in every block.

    Raises
    ------
    ValueError
        If a number is not positive, or an option has no meaning here: a shared deadline, or a
        window for each token.
    """

    slots: int
    outage_price: float
    mean: LinkStates
    rng: np.random.Generator
    selection: str = "energy-to-go"
    reselect: bool = True
    solved: dict[tuple[float, ...], EnergyToGo] = field(default_factory=dict)

    def __post_init__(self) -> None:
        AirInterface.__post_init__(self)
        if not (self.slots >= 1 and self.outage_price > 0.0):
            raise ValueError(f"fast fading: slots and outage_price must be positive, got {self}")
        if self.deadline_shared or not self.shared_window:
            raise ValueError(
                "fast fading goes with one window per batch and direction: no shared deadline, "
                "no windows of single tokens"
            )

    @classmethod
    def over(cls, air: AirInterface, **options: Any) -> SlottedAir:
        """Make an air interface of these parameters whose channel changes within bursts."""
        return cls(**{part.name: getattr(air, part.name) for part in fields(air)}, **options)

    def pricing(self, links: LinkStates, tokens: int) -> Pricing:
        """Price every load on every helper, priced outage included."""
        if self.selection == "mean-gain":
            return AirInterface.pricing(self, self.mean, tokens)
        if self.selection == "current-gain":
            return AirInterface.pricing(self, links, tokens)
        requests = self._units(tokens)
        up = self._uplink_price() * np.array(
            [self._expected_j(n, links, tokens) for n in range(links.num_links)]
        )
        answers = common_units(self.bits_by_width(Direction.DOWN), tokens)
        down = self._priced(links, Direction.DOWN).table(
            max_load=answers.columns,
            payload_bits=float(answers.bits),
            window_s=self.window_s(max(tokens, 1)),
        )
        if not self.width_choice:
            return Pricing.of_one_width(up + down)
        return joined_tables([up, down], requests, answers)

    def _expected_j(self, n: int, links: LinkStates, tokens: int) -> FloatArray:
        """Return the expected energy of helper n's loads in units, priced outage included."""
        to_go = self._to_go(n, tokens)
        state = to_go.link.states.state_of(float(links.uplink_gain[n]))
        return to_go.expected_j(state=state)[:: _steps(self._units(tokens))]

    def _uplink_price(self) -> float:
        """Price of a joule sent block by block; circuits of requests are booked, not priced."""
        return self.objective.uplink_price

    def energy_table(self, links: LinkStates, tokens: int) -> FloatArray:
        """Price of every load on every helper, (N, T+1) J; of vectors of one width."""
        if self.selection == "mean-gain":
            return AirInterface.energy_table(self, self.mean, tokens)
        if self.selection == "current-gain":
            return AirInterface.energy_table(self, links, tokens)
        return self.pricing(links, tokens).energy_j

    def transfer(
        self, problem: SelectionProblem, plan: SelectionPlan, links: LinkStates, *, policy: Policy
    ) -> Transfer:
        """Send a plan slot by slot; undelivered tokens are skipped in the returned plan."""
        tokens, count = problem.num_tokens, problem.num_helpers
        to_go = [self._to_go(n, tokens) for n in range(count)]
        later = self.rng.exponential(size=(self.slots - 1, count))
        gains = np.vstack([links.uplink_gain, later * self.mean.uplink_gain])  # [M, N]
        sent = Sent.nothing(count, len(self.widths) if tokens == 1 else 1)
        for slot, gain in enumerate(gains):
            if slot and tokens == 1 and self.reselect:
                cost = self._cost_to_go(to_go, slot, gain, sent, links)
                plan = select_again(problem, plan, cost, policy)
            wanted = self._wanted(plan, count)
            for n, b in zip(*np.nonzero(wanted > sent.bits), strict=True):
                left = float(wanted[n, b] - sent.bits[n, b])
                sent.send(n, b, to_go[n], slot, gain=float(gain[n]), bits_left=left)
        received = np.where(self._wanted(plan, count) > 0.0, sent.bits, 0.0).sum(axis=1)  # [N]
        lost = missing(plan, received, width=self.widths, bits=self._bits())
        arrived = lose(problem, plan, lost)
        return Transfer(
            plan=arrived,
            lost=int(lost.sum()),
            up=self._up(plan, arrived, sent, tokens),
            down=self.bursts(
                self.load_back(arrived, count),
                links,
                tokens=tokens,
                direction=Direction.DOWN,
            ),
        )

    def _bits(self) -> FloatArray:
        """Bits of a vector of each width, (B,)."""
        return np.array(list(self.width_bits.values()) or [self.payload_bits], dtype=np.float64)

    def _wanted(self, plan: SelectionPlan, count: int) -> FloatArray:
        """Bits that a plan sends: of a single token by helper and width, else by helper, (N, B)."""
        load = self.load(plan, count)
        if len(plan.helper) == 1:
            return load.count * load.bits
        return load.payload_bits[:, None]

    def _cost_to_go(
        self,
        to_go: list[EnergyToGo],
        slot: int,
        gain: FloatArray,
        sent: Sent,
        links: LinkStates,
    ) -> FloatArray:
        """Remaining cost of the single token on every helper at every width, (N, B, V) J.

        The energy-to-go of what is not received yet, and the energy of the answer.
        """
        left = np.maximum(0.0, self._bits() - sent.bits)
        values = [
            [to_go[n].value_j(slot, gain=float(gain[n]), bits_left=float(bits)) for bits in row]
            for n, row in enumerate(left)
        ]
        back = self._priced(links, Direction.DOWN).each(
            map(float, self.bits_by_width(Direction.DOWN).values()), window_s=self.window_s(1)
        )
        return self._uplink_price() * np.array(values)[:, :, None] + back[:, None, :]

    def _up(self, plan: SelectionPlan, arrived: SelectionPlan, sent: Sent, tokens: int) -> Bursts:
        """Bursts as sent, including those abandoned for another helper."""
        count = len(sent.bits)
        by_width = self.load(plan, count).count  # [N, B]
        if tokens == 1:
            by_width = np.maximum(by_width, sent.bits > 0.0)
        helper = np.flatnonzero(by_width.any(axis=1))
        bits, energy, airtime = sent.of(helper)
        on_air = np.where(airtime > 0.0, airtime, 1.0)
        total = by_width[helper].sum(axis=1)
        return Bursts(
            direction=Direction.UP,
            helper=helper,
            tokens=total,
            missed=total - arrived.loads(count)[helper],
            by_width=by_width[helper],
            width=self.widths,
            payload_bits=bits,
            tx_power_w=energy / on_air,
            airtime_s=airtime,
            energy_j=energy,
            rate_bps=bits / on_air,
            control_bits=np.zeros(len(helper)),
            circuit_tx_j=self.circuit.sender_w(Direction.UP) * airtime,
            circuit_rx_j=self.circuit.receiver_w(Direction.UP) * airtime,
            window_s=self.window_s(tokens),
        )

    def _units(self, tokens: int) -> Units:
        """Return the unit of payload in which loads are counted."""
        width_bits = self.width_bits or {self.width: self.payload_bits}
        return common_units(width_bits, tokens, most_columns=max(_MOST_LOADS, tokens))

    def _to_go(self, n: int, tokens: int) -> EnergyToGo:
        mean, counted = self.mean, self._units(tokens)
        key = (mean.uplink_gain[n], mean.bandwidth_hz[n], mean.noise_psd[n], float(tokens))
        if key not in self.solved:
            self.solved[key] = energy_to_go(
                self._link(n, tokens),
                max_bits=float(counted.columns * counted.bits),
                steps=counted.columns * _steps(counted),
            )
        return self.solved[key]

    def _link(self, n: int, tokens: int) -> SlottedLink:
        mean = float(self.mean.uplink_gain[n])
        band, noise = float(self.mean.bandwidth_hz[n]), float(self.mean.noise_psd[n])
        token_j = float(
            transmit_energy(
                payload_bits=float(self.payload_bits),
                airtime_s=self.token_deadline_s,
                bandwidth_hz=band,
                gain=mean,
                noise_psd=noise,
            )
        )
        return SlottedLink(
            states=GainStates.rayleigh(mean, bins=_BINS),
            num_slots=self.slots,
            slot_s=self.window_s(tokens) / self.slots,
            bandwidth_hz=band,
            noise_psd=noise,
            tx_power_limit_w=self.tx_power_limit_w,
            outage_price_j=self.outage_price * token_j / self.payload_bits,
        )


def _steps(counted: Units) -> int:
    """Grid steps of a unit of load."""
    return math.ceil(_GRID / counted.columns)
