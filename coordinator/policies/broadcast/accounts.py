"""What sets of ways cost in one band: payloads, windows, deviation, and their objective."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.selection.problem import BudgetKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.policies.loads.tables import HelperTables
    from siftmoe.coordinator.selection.medium import Medium
    from siftmoe.coordinator.selection.problem import SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Account:
    """Sets of ways and their cost.

    Parameters
    ----------
    sets : (T, W) int64
        Ways of every token, padded with -1.
    energy_j : float, J
        Priced, both directions; infinite where a window is too short.
    deviation : float
        Of all tokens.
    up_w, down_w : float, W
        Prices of airtime of these payloads in either window; infinite where they do not fit.
    """

    sets: IntArray
    energy_j: float
    deviation: float
    up_w: float
    down_w: float

    def objective(self, problem: SelectionProblem) -> float:
        """Energy, plus the deviation where it has a price, J."""
        if problem.budget.kind is BudgetKind.PRICE:
            return self.energy_j + problem.budget.value * self.deviation
        return self.energy_j


def account(
    problem: SelectionProblem, tables: HelperTables, medium: Medium, sets: IntArray
) -> Account:
    """Add up what sets of ways cost."""
    ways = np.sort(sets, axis=1)  # [T, W]
    ways[:, 1:][ways[:, 1:] == ways[:, :-1]] = -1  # a token goes each way once
    routed = problem.routed_experts
    served = np.append(tables.served, tables.base[:, None], axis=1)
    least = served[routed[:, :, None], ways[:, None, :]].min(axis=2)  # [T, K]
    deviation = np.where(problem.slot_weights() > 0.0, problem.slot_weights() * least, 0.0)
    up, down = _payloads(tables, medium, ways)
    sent = medium.up.divide(up)
    energy, down_w = medium.up.price * sent.energy_j, 0.0
    if medium.down is not None:
        back = medium.down.divide(down)
        energy, down_w = energy + medium.down.price * back.energy_j, back.price_w
    return Account(
        sets=sets,
        energy_j=energy if math.isfinite(energy) else math.inf,
        deviation=float(deviation.sum()),
        up_w=sent.price_w,
        down_w=down_w,
    )


def _payloads(
    tables: HelperTables, medium: Medium, ways: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Bits over every link, up and down, (N,) each."""
    count = medium.num_helpers
    requests = np.repeat(np.array(list(medium.bits.values())), len(medium.reply_bits))
    up_bits = np.tile(requests, count)  # [H]
    down_bits = np.tile(np.array(list(medium.reply_bits.values())), count * len(medium.bits))
    used = ways[ways >= 0]
    down = np.bincount(tables.helper[used], weights=down_bits[used], minlength=count)
    if medium.broadcast and used.size:
        noise = np.append(medium.up.noise_w[tables.helper], -1.0)[ways]  # [T, W], nobody last
        worst = np.take_along_axis(ways, noise.argmax(axis=1)[:, None], axis=1)[:, 0]
        used = worst[worst >= 0]
    up = np.bincount(tables.helper[used], weights=up_bits[used], minlength=count)
    return up, down
