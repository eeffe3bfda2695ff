"""Fast fading in the loop: bursts sent slot by slot, and what misses its window lost to the model.

A burst's window spans M coherence blocks. The helper is chosen at its start, when the first block's
gain is known; then every block's gain becomes known as it begins, and the bits that go into it are
those of least expected energy-to-go (`siftmoe.coordinator.policies.fading`). Tokens that are not
delivered by the end of the window are missing from the layer's output. The window of a batch is the
sum of its tokens' deadlines; M counts blocks of that window, so what matters is how fast the
channel is against the deadline, not the size of the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.airtime import AirInterface, Bursts, Direction
from siftmoe.coordinator.policies.fading import SlottedLink, energy_to_go
from siftmoe.coordinator.policies.gain_states import GainStates
from siftmoe.coordinator.selection import NOBODY
from siftmoe.radio.link import transmit_energy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.links import LinkStates
    from siftmoe.coordinator.parts import Computation, Dispatch
    from siftmoe.coordinator.policies.fading import EnergyToGo
    from siftmoe.coordinator.selection import SelectionPlan

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: States of the gain, and grid points of a whole batch's payload at least.
_BINS = 48
_GRID = 384


@dataclass(frozen=True, slots=True, kw_only=True)
class SlottedAir(AirInterface):
    """An air interface whose channel changes within a burst.

    Parameters
    ----------
    slots : int
        Coherence blocks M of a window.
    selection : str
        What a load is taken to cost, one of ``SELECTIONS``.
    outage_price : float
        Of an undelivered token, in energies of a token at the mean gain.
    mean : LinkStates
        The links at their mean gains.
    rng : np.random.Generator
        Of the blocks after the first.
    delivered : dict
        Tokens that the bursts of the last selection delivered, by helper.
    counts : dict
        Tokens "sent" and "missed" so far.
    """

    slots: int
    selection: str
    outage_price: float
    mean: LinkStates
    rng: np.random.Generator
    delivered: dict[int, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: {"sent": 0, "missed": 0})
    solved: dict[tuple[int, int], EnergyToGo] = field(default_factory=dict)

    def energy_table(self, links: LinkStates, tokens: int) -> FloatArray:
        """Price of every load on every helper, (N, T+1) J."""
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

    def bursts(
        self, loads: IntArray, links: LinkStates, *, tokens: int, direction: Direction
    ) -> Bursts:
        """Send given loads slot by slot; the downlink keeps the gain of the start."""
        bursts = AirInterface.bursts(self, loads, links, tokens=tokens, direction=direction)
        if direction is Direction.DOWN:
            return bursts
        later = self.rng.exponential(size=(self.slots - 1, links.num_links))
        gains = np.vstack([links.uplink_gain, later * self.mean.uplink_gain])  # [M, N]
        energy = np.zeros(len(bursts.helper))
        bits = np.zeros(len(bursts.helper))
        self.delivered.clear()
        for i, n in enumerate(bursts.helper):
            energy[i], left = self._send(
                int(n), gains[:, n], tokens=tokens, payload=float(bursts.payload_bits[i])
            )
            bits[i] = bursts.payload_bits[i] - left
            self.delivered[int(n)] = math.floor(bits[i] / self.payload_bits + 1e-6)
        self.counts["sent"] += int(loads.sum())
        self.counts["missed"] += int(loads.sum()) - sum(self.delivered.values())
        window = bursts.airtime_s
        return replace(bursts, energy_j=energy, tx_power_w=energy / window, rate_bps=bits / window)

    def _send(
        self, n: int, gains: FloatArray, *, tokens: int, payload: float
    ) -> tuple[float, float]:
        """Energy of one burst, and the bits that it leaves."""
        to_go, left, energy = self._to_go(n, tokens), payload, 0.0
        for slot, gain in enumerate(gains):
            bits = to_go.action_bits(slot, gain=float(gain), bits_left=left)
            energy += to_go.link.slot_energy_j(bits, float(gain))
            left = max(0.0, left - bits)
        return energy, left

    def _to_go(self, n: int, tokens: int) -> EnergyToGo:
        key = (n, tokens)
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
class Lossy:
    """Experts that are sent only what a `SlottedAir` delivered.

    Parameters
    ----------
    experts : Dispatch
    air : SlottedAir
    """

    experts: Dispatch
    air: SlottedAir

    def run(self, plan: SelectionPlan, hidden: NDArray[np.float32], *, layer: int) -> Computation:
        """Compute a layer without the tokens that each burst left behind, its last ones."""
        helper, weight = plan.helper.copy(), plan.weight.copy()
        for n, count in self.air.delivered.items():
            served = (plan.helper == n).any(axis=1)  # [T]
            lost = served & (np.cumsum(served) > count)
            slots = (plan.helper == n) & lost[:, None]  # [T, K]
            helper[slots] = NOBODY
            weight[slots] = 0.0
        return self.experts.run(replace(plan, helper=helper, weight=weight), hidden, layer=layer)


def _steps_per_token(tokens: int) -> int:
    return math.ceil(_GRID / tokens)
