"""Fast fading: bursts sent slot by slot, and what misses its window lost to the model.

A burst's window spans M coherence blocks. The helper is chosen at its start, when the first block's
gain is known; then every block's gain becomes known as it begins, and the bits that go into it are
those of least expected energy-to-go (`siftmoe.coordinator.policies.fading`). A token that is not
delivered by the end of the window is missing from the layer's output: its slots are skipped, and
the energy that was put into it is spent. The window of a batch is the sum of its tokens' deadlines;
M counts blocks of that window, so what matters is how fast the channel is against the deadline, not
the size of the batch.

A single token, as in decoding, is selected for again in every block: the policy solves the token's
problem with what each helper still costs, energy-to-go of what it has not received yet, and the
token moves on where that is less. What a helper has received stays with it until the window ends,
of use only if the token comes back. The tokens of a batch share bursts and stay where they are
(docs/theory.md, section 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.coordinator.airtime import AirInterface, Bursts, Direction, Transfer
from siftmoe.coordinator.policies.fading import SlottedLink, energy_to_go
from siftmoe.coordinator.policies.gain_states import GainStates
from siftmoe.coordinator.selection import NOBODY, BudgetKind, Status
from siftmoe.radio.link import transmit_energy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.links import LinkStates
    from siftmoe.coordinator.policies.fading import EnergyToGo
    from siftmoe.coordinator.policies.registry import Policy
    from siftmoe.coordinator.selection import SelectionPlan, SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

#: States of the gain, and grid points of a whole batch's payload at least.
_BINS = 48
_GRID = 384
#: A token moves to other helpers for this share less, not for a rounding error.
_LEAST_GAIN = 1e-9
#: A payload short of this share of a token was delivered; it is a rounding error of the grid.
_WHOLE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class SlottedAir(AirInterface):
    """An air interface whose channel changes within a burst.

    The downlink is sent at the gain of the window's start and is not priced.

    Parameters
    ----------
    slots : int
        Coherence blocks M of a window.
    outage_price : float
        Of an undelivered token, in energies of a token at the mean gain.
    mean : LinkStates
        The links at their mean gains.
    rng : np.random.Generator
        Of the blocks after the first.
    selection : str
        What a load is taken to cost: its "energy-to-go", or what it would cost if the gain stayed
        as it is ("current-gain") or were the mean ("mean-gain").
    reselect : bool
        Select again for a single token in every block.

    Raises
    ------
    ValueError
        If a number is not positive, or the air is to have what has no meaning here: a shared
        deadline, a priced downlink, or a window for each token.
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
        if self.deadline_shared or self.downlink_price > 0.0 or not self.shared_window:
            raise ValueError(
                "fast fading goes with one window per batch and direction: no shared deadline, "
                "no price of the downlink, no windows of single tokens"
            )
        if self.width_bits:
            raise ValueError("fast fading sends vectors of one width, got several")

    @classmethod
    def over(cls, air: AirInterface, **options: Any) -> SlottedAir:
        """Let the channel of an air interface change within its bursts."""
        return cls(**{part.name: getattr(air, part.name) for part in fields(air)}, **options)

    def energy_table(self, links: LinkStates, tokens: int) -> FloatArray:
        """Price of every load on every helper, (N, T+1) J, priced outage included."""
        if self.selection == "mean-gain":
            return AirInterface.energy_table(self, self.mean, tokens)
        if self.selection == "current-gain":
            return AirInterface.energy_table(self, links, tokens)
        rows = []
        for n in range(links.num_links):
            to_go = self._to_go(n, tokens)
            state = to_go.link.states.state_of(float(links.uplink_gain[n]))
            rows.append(to_go.expected_j(state=state)[:: _steps_per_token(tokens)])
        return np.array(rows)

    def transfer(
        self, problem: SelectionProblem, plan: SelectionPlan, links: LinkStates, *, policy: Policy
    ) -> Transfer:
        """Send a plan slot by slot; only what was delivered comes back."""
        tokens, count = problem.num_tokens, problem.num_helpers
        to_go = [self._to_go(n, tokens) for n in range(count)]
        later = self.rng.exponential(size=(self.slots - 1, count))
        gains = np.vstack([links.uplink_gain, later * self.mean.uplink_gain])  # [M, N]
        sent = _Sent(np.zeros(count), np.zeros(count), np.zeros(count))
        for slot, gain in enumerate(gains):
            if slot and tokens == 1 and self.reselect:
                cost = self._cost_to_go(to_go, slot, gain, sent)
                plan = _select_again(problem, plan, cost, policy)
            payload = plan.loads(count) * float(self.payload_bits)
            for n in np.flatnonzero(payload > sent.bits):
                sent.send(int(n), to_go[n], slot, float(gain[n]), float(payload[n] - sent.bits[n]))
        loads = plan.loads(count)
        arrived = np.minimum(loads, np.floor(sent.bits / self.payload_bits + _WHOLE).astype(int))
        lost = missing(plan, arrived)
        return Transfer(
            plan=lose(problem, plan, lost),
            lost=int(lost.sum()),
            up=self._up(loads, arrived, sent, tokens),
            down=self.bursts(
                self.load_of(arrived, Direction.DOWN),
                links,
                tokens=tokens,
                direction=Direction.DOWN,
            ),
        )

    def _cost_to_go(
        self, to_go: list[EnergyToGo], slot: int, gain: FloatArray, sent: _Sent
    ) -> FloatArray:
        """Energy-to-go of the single token on every helper, (N,) J."""
        left = np.maximum(0.0, self.payload_bits - sent.bits)
        values = [
            to_go[n].value_j(slot, gain=float(gain[n]), bits_left=float(left[n]))
            for n in range(len(to_go))
        ]
        return np.array(values)

    def _up(self, loads: IntArray, arrived: IntArray, sent: _Sent, tokens: int) -> Bursts:
        """Bursts as they were sent, those included that were given up for another helper."""
        helper = np.flatnonzero((loads > 0) | (sent.bits > 0.0))
        count = np.maximum(loads[helper], 1)
        airtime, energy = sent.airtime_s[helper], sent.energy_j[helper]
        on_air = np.where(airtime > 0.0, airtime, 1.0)
        return Bursts(
            direction=Direction.UP,
            helper=helper,
            tokens=count,
            missed=count - arrived[helper],
            by_width=count[:, None],
            width=self.widths,
            payload_bits=sent.bits[helper],
            tx_power_w=energy / on_air,
            airtime_s=airtime,
            energy_j=energy,
            rate_bps=sent.bits[helper] / on_air,
            window_s=self.window_s(tokens),
        )

    def _to_go(self, n: int, tokens: int) -> EnergyToGo:
        mean = self.mean
        key = (mean.uplink_gain[n], mean.bandwidth_hz[n], mean.noise_psd[n], float(tokens))
        if key not in self.solved:
            self.solved[key] = energy_to_go(
                self._link(n, tokens),
                max_bits=float(tokens * self.payload_bits),
                steps=tokens * _steps_per_token(tokens),
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


@dataclass(frozen=True, slots=True)
class _Sent:
    """What every helper has been sent so far, and what it took: (N,) each."""

    bits: FloatArray
    energy_j: FloatArray
    airtime_s: FloatArray

    def send(self, n: int, to_go: EnergyToGo, slot: int, gain: float, bits_left: float) -> None:
        """Send in one slot what the energy-to-go says."""
        bits = to_go.action_bits(slot, gain=gain, bits_left=bits_left)
        if bits > 0.0:
            self.bits[n] += bits
            self.energy_j[n] += to_go.link.slot_energy_j(bits, gain)
            self.airtime_s[n] += to_go.link.slot_s


def _select_again(
    problem: SelectionProblem, plan: SelectionPlan, cost_j: FloatArray, policy: Policy
) -> SelectionPlan:
    """Select for a token on its way; keeps what the first selection predicted and proved."""
    now = _objective(problem, plan, cost_j)
    if plan.status is Status.INFEASIBLE or now == 0.0:
        return plan
    again = policy(replace(problem, energy=np.stack([np.zeros_like(cost_j), cost_j], axis=1)))
    if again.status is Status.INFEASIBLE:
        return plan
    solve_s = plan.solve_s + again.solve_s
    if not _objective(problem, again, cost_j) < now * (1.0 - _LEAST_GAIN):
        return replace(plan, solve_s=solve_s)
    return replace(
        again,
        status=plan.status,
        energy_j=plan.energy_j,
        lower_bound_j=plan.lower_bound_j,
        solve_s=solve_s,
    )


def _objective(problem: SelectionProblem, plan: SelectionPlan, cost_j: FloatArray) -> float:
    """Count what is to come of a single token's plan, J: energy, and deviation if priced."""
    energy = float(cost_j[plan.loads(problem.num_helpers) > 0].sum())
    if problem.budget.kind is BudgetKind.PRICE and problem.budget.value > 0.0:
        energy += problem.budget.value * float(plan.deviation.sum())
    return energy


def missing(plan: SelectionPlan, arrived: IntArray) -> BoolArray:
    """Mark the slots, (T, K), of tokens beyond the ``arrived`` first ones of their helper."""
    lost = np.zeros(plan.helper.shape, dtype=np.bool_)
    for n, count in enumerate(arrived):
        here = plan.helper == n  # [T, K]
        served = here.any(axis=1)  # [T]
        lost |= here & (served & (np.cumsum(served) > count))[:, None]
    return lost


def lose(problem: SelectionProblem, plan: SelectionPlan, lost: BoolArray) -> SelectionPlan:
    """Skip the lost slots, (T, K), and count their deviation as that of a skip."""
    if not lost.any():
        return plan
    routed, nobody = problem.routed_experts, problem.num_experts
    change = problem.deviation[routed, nobody] - problem.serving_deviation(plan.expert, plan.width)
    added = np.where(lost, problem.slot_weights() * change, 0.0).sum(axis=1)  # [T]
    return replace(
        plan,
        helper=np.where(lost, NOBODY, plan.helper),
        expert=np.where(lost, nobody, plan.expert),
        weight=np.where(lost, 0.0, plan.weight),
        width=np.where(lost, 0, plan.width),
        deviation=plan.deviation + added,
    )


def _steps_per_token(tokens: int) -> int:
    return math.ceil(_GRID / tokens)
