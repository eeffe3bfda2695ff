"""Delivery under fast fading: payload sent so far, and slots lost at the end of the window."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.coordinator.selection.problem import NOBODY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from siftmoe.coordinator.fading.energy_to_go import EnergyToGo
    from siftmoe.coordinator.selection.problem import SelectionPlan, SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

#: A payload that lacks less than this share of a token counts as delivered: rounding of the grid.
_WHOLE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Sent:
    """Bits, energy and airtime sent to every helper so far, (N, B) each.

    B is the number of widths for a single token, since a helper keeps the bits received at each
    width, and 1 for a batch, whose bursts carry bits of any width.
    """

    bits: FloatArray
    energy_j: FloatArray
    airtime_s: FloatArray

    @classmethod
    def nothing(cls, helpers: int, widths: int) -> Sent:
        """Nothing sent yet."""
        return cls(*(np.zeros((helpers, widths)) for _ in range(3)))

    def send(
        self, n: int, b: int, to_go: EnergyToGo, slot: int, *, gain: float, bits_left: float
    ) -> None:
        """Send the bits of one slot that minimise the energy-to-go."""
        bits = to_go.action_bits(slot, gain=gain, bits_left=bits_left)
        if bits > 0.0:
            self.bits[n, b] += bits
            self.energy_j[n, b] += to_go.link.slot_energy_j(bits, gain)
            self.airtime_s[n, b] += to_go.link.slot_s

    def of(self, helper: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Bits, energy and airtime of some helpers, (m,) each."""
        bits, energy, airtime = (
            part[helper].sum(axis=1) for part in (self.bits, self.energy_j, self.airtime_s)
        )
        return bits, energy, airtime


def missing(
    plan: SelectionPlan, received: FloatArray, *, width: Sequence[int], bits: FloatArray
) -> BoolArray:
    """Mark the slots, (T, K), of undelivered tokens: the last tokens of each burst.

    Parameters
    ----------
    plan : SelectionPlan
    received : (N,) float64, bit
        By each helper.
    width : sequence of B int, bit
    bits : (B,) float64, bit
        Of a vector of each width.
    """
    lost = np.zeros(plan.helper.shape, dtype=np.bool_)
    for n, got in enumerate(received):
        here = plan.helper == n  # [T, K]
        slot_bits = bits[np.searchsorted(width, np.where(here, plan.width, width[0]))]
        token_bits = np.where(here, slot_bits, 0.0).max(axis=1)  # [T]
        late = np.cumsum(token_bits) > got + _WHOLE * token_bits
        lost |= here & late[:, None]
    return lost


def lose(problem: SelectionProblem, plan: SelectionPlan, lost: BoolArray) -> SelectionPlan:
    """Skip the lost slots, (T, K), and count their deviation as that of a skip."""
    if not lost.any():
        return plan
    routed, nobody = problem.routed_experts, problem.num_experts
    served = problem.serving_deviation(plan.expert, plan.width, plan.reply_width)
    change = problem.deviation[routed, nobody] - served
    added = np.where(lost, problem.slot_weights() * change, 0.0).sum(axis=1)  # [T]
    return replace(
        plan,
        helper=np.where(lost, NOBODY, plan.helper),
        expert=np.where(lost, nobody, plan.expert),
        weight=np.where(lost, 0.0, plan.weight),
        width=np.where(lost, 0, plan.width),
        reply_width=None if plan.reply_width is None else np.where(lost, 0, plan.reply_width),
        deviation=plan.deviation + added,
    )
