r"""Fast fading: least expected energy of a payload sent in slots whose gains appear one by one.

With M slots of length :math:`\tau`, :math:`\beta = s / (B \tau)` bit/s/Hz to deliver, gain state
h in slot m, and energies in units of :math:`\tau N_0 B`, the least expected energy-to-go is

.. math:: V_m(\beta, h) = \min_{0 \le b \le \min(\beta, \log_2(1 + P g_h / N_0 B))}
          \frac{2^b - 1}{g_h} + \sum_{h'} p_{hh'} V_{m+1}(\beta - b, h'), \qquad
          V_{M+1}(\beta) = \Lambda \beta

where :math:`\Lambda` prices a bit that is never delivered. V is convex in :math:`\beta`, so on a
grid the minimum merges two ascending lists of slopes, and the action in a slot is found by
bisection. Because :math:`e_n(q) = \mathbb E V_1(q \beta)` is convex too, helpers are selected by
the same algorithms as under slow fading. That SiftMoE extends to fast fading is stated by the
paper (arXiv 2603.23888); all of this is our derivation (docs/explanation/theory.md, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.fading.gain_states import GainStates

    FloatArray = NDArray[np.float64]

#: A payload within this share of a step of a grid point counts as on it.
_GRID_SLACK = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class SlottedLink:
    """A link whose gain changes from slot to slot.

    Parameters
    ----------
    states : GainStates
        Law of the power gain.
    num_slots : int
        Slots M until the deadline.
    slot_s : float, s
    bandwidth_hz : float, Hz
    noise_psd : float, W/Hz
    tx_power_limit_w : float, W
        May be infinite.
    outage_price_j : float, J/bit
        Price of a bit that is not delivered by the deadline.

    Raises
    ------
    ValueError
        If a value is not positive, or the outage price is infinite.
    """

    states: GainStates
    num_slots: int
    slot_s: float
    bandwidth_hz: float
    noise_psd: float
    tx_power_limit_w: float
    outage_price_j: float

    def __post_init__(self) -> None:
        for name in ("num_slots", "slot_s", "bandwidth_hz", "noise_psd", "tx_power_limit_w"):
            if not getattr(self, name) > 0:
                raise ValueError(f"slotted link: {name} must be positive, got {self}")
        if not 0.0 < self.outage_price_j < math.inf:
            raise ValueError(
                f"slotted link: outage_price_j must be positive and finite, got "
                f"{self.outage_price_j}; without it Rayleigh fading needs infinite energy"
            )

    def slot_energy_j(self, bits: float, gain: float) -> float:
        """Energy of sending ``bits`` in one slot."""
        growth = math.expm1(math.log(2.0) * bits / (self.bandwidth_hz * self.slot_s))
        return self.slot_s * self.noise_psd * self.bandwidth_hz / gain * growth

    def slot_capacity_bits(self, gain: float) -> float:
        """Most bits of one slot under the power limit."""
        snr = self.tx_power_limit_w * gain / (self.noise_psd * self.bandwidth_hz)
        return self.bandwidth_hz * self.slot_s * math.log1p(snr) / math.log(2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyToGo:
    """Least expected energy of a link for every slot, state and remaining payload.

    Parameters
    ----------
    link : SlottedLink
    step_bits : float, bit
        Grid of payloads.
    first_j : (H, G) float64, J
        Energy-to-go in the first slot, when its state is known.
    after_j : (M, S, G) float64, J
        Expected energy-to-go after slot m given that slot's state; S is 1 without memory.
    """

    link: SlottedLink
    step_bits: float
    first_j: FloatArray
    after_j: FloatArray

    def expected_j(self, *, state: int | None = None) -> FloatArray:
        """Energy-to-go at the start for every grid payload, (G,) J.

        Parameters
        ----------
        state : int or None
            State of the first slot where it is known.
        """
        if state is not None:
            return np.asarray(self.first_j[state], dtype=np.float64)
        return np.asarray(self.link.states.initial @ self.first_j, dtype=np.float64)

    def action_bits(self, slot: int, *, gain: float, bits_left: float) -> float:
        """Bits to send in a slot whose gain has just become known.

        Parameters
        ----------
        slot : int
            0 .. M-1.
        gain : float
            Exact gain, which need not be that of a state.
        bits_left : float, bit
            Rounded up to the grid.
        """
        left = self._index(bits_left)
        steps = self._action(slot, gain, left)
        return min(steps * self.step_bits, bits_left)

    def value_j(self, slot: int, *, gain: float, bits_left: float) -> float:
        """Energy-to-go from a slot whose gain is known, J."""
        left = self._index(bits_left)
        steps = self._action(slot, gain, left)
        now = self.link.slot_energy_j(steps * self.step_bits, gain)
        return now + float(self._after(slot, gain)[left - steps])

    def _after(self, slot: int, gain: float) -> FloatArray:
        if not 0 <= slot < self.link.num_slots:
            raise ValueError(f"slot must lie in 0..{self.link.num_slots - 1}, got {slot}")
        table: FloatArray = self.after_j[slot]
        row: FloatArray = table[self.link.states.state_of(gain) if len(table) > 1 else 0]
        return row

    def _action(self, slot: int, gain: float, left: int) -> int:
        link = self.link
        most = int(min(left, link.slot_capacity_bits(gain) / self.step_bits + _GRID_SLACK))
        unit = link.slot_s * link.noise_psd * link.bandwidth_hz / gain
        step = self.step_bits / (link.bandwidth_hz * link.slot_s)
        return int(_best_action(unit, step, most, left, self._after(slot, gain)))

    def _index(self, bits: float) -> int:
        index = math.ceil(bits / self.step_bits - _GRID_SLACK)
        if not 0 <= index < self.first_j.shape[1]:
            raise ValueError(
                f"payload {bits} is not in 0..{(self.first_j.shape[1] - 1) * self.step_bits}"
            )
        return index


def energy_to_go(link: SlottedLink, *, max_bits: float, steps: int) -> EnergyToGo:
    """Solve a link for every payload up to ``max_bits``.

    Parameters
    ----------
    link : SlottedLink
    max_bits : float, bit
    steps : int
        Grid steps up to there; 50 leave an error of 0.06 %, 200 of 0.004 %.
    """
    if not (max_bits > 0.0 and steps >= 1):
        raise ValueError(f"need max_bits > 0 and steps >= 1, got {max_bits} and {steps}")
    states = link.states
    step_bits = max_bits / steps
    hertz_s = link.bandwidth_hz * link.slot_s
    transition = states.transition[:1] if states.memoryless else states.transition
    last = link.outage_price_j * step_bits * np.arange(steps + 1.0)  # [G]
    after = np.empty((link.num_slots, len(transition), steps + 1))
    most = np.array(
        [min(steps, link.slot_capacity_bits(g) / step_bits + _GRID_SLACK) for g in states.gain]
    ).astype(np.int64)
    unit = link.slot_s * link.noise_psd * link.bandwidth_hz / states.gain
    after[-1] = last
    value = np.empty((len(states.gain), steps + 1))
    for slot in range(link.num_slots - 1, -1, -1):
        _merge_slopes(unit, step_bits / hertz_s, most, after[slot], value)
        if slot:
            after[slot - 1] = transition @ value
    return EnergyToGo(link=link, step_bits=step_bits, first_j=value, after_j=after)


def fading_energy_table(
    links: Sequence[SlottedLink],
    *,
    max_load: int,
    payload_bits: float,
    steps_per_token: int = 50,
    first_gain: FloatArray | None = None,
) -> FloatArray:
    """Tabulate the expected energy of every load for the policies of slow fading.

    Parameters
    ----------
    links : sequence of N SlottedLink
    max_load : int
    payload_bits : float, bit
        Payload of one token.
    steps_per_token : int
        Grid of the payload.
    first_gain : (N,) float64 or None
        Gains of the first slot where they are known.

    Returns
    -------
    (N, max_load+1) float64, J
        Priced outage included; convex and nondecreasing in the load.
    """
    if max_load < 1:
        raise ValueError(f"max_load must be at least 1, got {max_load}")
    table = np.empty((len(links), max_load + 1))
    for n, link in enumerate(links):
        to_go = energy_to_go(
            link, max_bits=max_load * payload_bits, steps=max_load * steps_per_token
        )
        state = None if first_gain is None else link.states.state_of(float(first_gain[n]))
        table[n] = to_go.expected_j(state=state)[::steps_per_token]
    return table


@compiled
def _merge_slopes(
    unit: FloatArray, step: float, most: NDArray[np.int64], after: FloatArray, value: FloatArray
) -> None:
    """Infimal convolution of a slot's energy and the energy after it, for every state."""
    growth = 2.0**step
    last = value.shape[1] - 1
    for h in range(len(unit)):
        later = after[h if len(after) > 1 else 0]
        slope = unit[h] * (growth - 1.0)  # of sending one more step now
        sent = 0
        kept = 0
        value[h, 0] = later[0]
        for k in range(last):
            wait = later[kept + 1] - later[kept]
            if sent < most[h] and slope <= wait:
                value[h, k + 1] = value[h, k] + slope
                slope *= growth
                sent += 1
            else:
                value[h, k + 1] = value[h, k] + wait
                kept += 1


@compiled
def _best_action(unit: float, step: float, most: int, left: int, after: FloatArray) -> int:
    """Find the steps to send now: the most whose last one is not dearer than waiting would be."""
    growth = 2.0**step - 1.0
    low = 0
    high = most
    while low < high:
        sent = (low + high + 1) // 2
        slope = unit * growth * 2.0 ** (step * (sent - 1))
        if slope <= after[left - sent + 1] - after[left - sent]:
            low = sent
        else:
            high = sent - 1
    return low
