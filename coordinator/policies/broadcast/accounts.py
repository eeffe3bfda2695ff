"""What sets of ways cost in one band: payloads, windows, deviation, and their objective."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled
from siftmoe.coordinator.energy.one_band import by_link
from siftmoe.coordinator.selection.problem import BudgetKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.energy.medium import Medium
    from siftmoe.coordinator.policies.loads.tables import HelperTables
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
    noise = medium.up.noise_w[tables.helper] if medium.broadcast else np.zeros(0)
    requests, answers, deviation = _use(
        problem.routed_experts,
        problem.slot_weights(),
        tables.served,
        tables.base,
        np.ascontiguousarray(sets),
        np.ascontiguousarray(noise),
    )
    up_bits = np.tile(
        np.repeat(list(medium.bits.values()), len(medium.reply_bits)), medium.num_helpers
    )  # [H]
    down_bits = np.tile(list(medium.reply_bits.values()), medium.num_helpers * len(medium.bits))
    up, down = (
        by_link(tables.helper, count * bits, medium.num_helpers)
        for count, bits in ((requests, up_bits), (answers, down_bits))
    )
    sent = medium.up.divide(up)
    energy, down_w = medium.up.price * sent.energy_j, 0.0
    if medium.down is not None:
        back = medium.down.divide(down)
        energy, down_w = energy + medium.down.price * back.energy_j, back.price_w
    return Account(
        sets=sets,
        energy_j=energy if math.isfinite(energy) else math.inf,
        deviation=deviation,
        up_w=sent.price_w,
        down_w=down_w,
    )


def total_deviation(problem: SelectionProblem, tables: HelperTables, sets: IntArray) -> float:
    """Deviation of all tokens that these ways serve."""
    _, _, deviation = _use(
        problem.routed_experts,
        problem.slot_weights(),
        tables.served,
        tables.base,
        np.ascontiguousarray(sets),
        np.zeros(0),
    )
    return float(deviation)


@compiled
def _use(
    routed: IntArray,
    weights: FloatArray,
    served: FloatArray,
    base: FloatArray,
    sets: IntArray,
    noise: FloatArray,
) -> tuple[IntArray, IntArray, float]:
    """Count requests and answers by way, (H,) each, and add up deviations.

    ``noise`` (H,) is that of each way's link where a token is broadcast to the worst, else empty.
    """
    requests = np.zeros(served.shape[1], np.int64)
    answers = np.zeros(served.shape[1], np.int64)
    total = 0.0
    tokens, slots = routed.shape
    for t in range(tokens):
        worst = -1
        for j in range(sets.shape[1]):
            h = sets[t, j]
            again = h < 0
            for k in range(j):
                again = again or sets[t, k] == h  # a token goes each way once
            if again:
                continue
            answers[h] += 1
            if noise.size == 0:
                requests[h] += 1
            elif worst < 0 or noise[h] > noise[worst]:
                worst = h
        if worst >= 0:
            requests[worst] += 1
        for i in range(slots):
            least = base[routed[t, i]]
            for j in range(sets.shape[1]):
                if sets[t, j] >= 0:
                    least = min(least, served[routed[t, i], sets[t, j]])
            if weights[t, i] > 0.0:
                total += weights[t, i] * least
    return requests, answers, total
