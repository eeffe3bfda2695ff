r"""Best response where helper sets are too many to list: an exact oracle per token.

The same potential game as in ``search``, with the token's best set found by ``cover`` or
``price`` at current marginal energies. docs/theory.md, sections 2.2 and 2.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.policies.cover import cover_batch, cover_respond
from siftmoe.coordinator.policies.dual import ascend
from siftmoe.coordinator.policies.outage import count_loads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.policies.effort import Effort
    from siftmoe.coordinator.policies.loads import LoadModel
    from siftmoe.coordinator.policies.tables import HelperTables

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Passes over all tokens before best response is taken as settled.
MOST_PASSES = 50


def respond_capped(
    routed: IntArray,
    weights: FloatArray,
    *,
    tables: HelperTables,
    model: LoadModel,
    cap: FloatArray,
    effort: Effort,
) -> tuple[IntArray, float]:
    """Settle sets (M, K), maybe beyond capacities, with the lower bound or NaN."""
    marginal, total = model.with_overflow()
    marginal = np.where(model.reachable[:, None], marginal[:-1], np.inf)
    sets = np.full(routed.shape, -1, dtype=np.int64)
    loads = np.zeros(model.capacity.size, dtype=np.int64)
    # those who need most, and so can choose least, go first
    order = np.argsort(cap - (weights * tables.base[routed]).sum(axis=1), kind="stable")
    game = (routed, weights, tables.served, tables.base)
    for _ in range(MOST_PASSES):
        if cover_respond(*game, marginal, cap, order, sets, loads) == 0:
            break
    if not effort.certificate or np.any(loads > model.capacity):
        return sets, float("nan")

    def demand(prices: FloatArray) -> tuple[float, FloatArray]:
        chosen, cost = cover_batch(*game, np.where(model.reachable, prices, np.inf), cap)
        return float(cost.sum()), count_loads(chosen, prices.size).astype(np.float64)

    at = np.arange(loads.size)
    scale = (marginal[at, np.maximum(loads - 1, 0)] + marginal[at, loads]) / 2
    scale = np.where(model.reachable, scale, 0.0)
    certificate = ascend(
        demand,
        model,
        scale,
        scale=scale,
        upper=float(total[at, loads].sum()),
        steps=effort.steps,
        tolerance=effort.tolerance,
    )
    return sets, certificate.bound
