"""Outage: gives tokens beyond capacity or reach the least remaining deviation.

If capacity is short, the tokens with least to lose are removed first; the removed tokens then
choose among helpers with free capacity, those with most to lose first, by deviation and among
equals by energy. The caller reports such plans as infeasible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.policies.loads.tables import deviation_at_stake
from siftmoe.coordinator.policies.token.cover import caps_with_outage, cover_batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.policies.loads.model import LoadModel
    from siftmoe.coordinator.policies.loads.tables import HelperTables
    from siftmoe.coordinator.selection.problem import SelectionProblem

    IntArray = NDArray[np.int64]


def shed_overflow(
    problem: SelectionProblem, tables: HelperTables, model: LoadModel, sets: IntArray
) -> IntArray:
    """Clear the sets of tokens until no capacity is exceeded; changes ``sets``, returns which."""
    loads = model.loads(sets)
    shed: list[int] = []
    if np.all(loads <= model.capacity):
        return np.array(shed, dtype=np.int64)
    for t in np.argsort(deviation_at_stake(problem, tables), kind="stable"):
        drawn = model.resource[sets[t][sets[t] >= 0]]
        if np.any(loads[drawn] > model.capacity[drawn]):
            loads -= model.loads(sets[t])
            sets[t] = -1
            shed.append(int(t))
    return np.array(shed, dtype=np.int64)


def serve_leftover(
    problem: SelectionProblem,
    tables: HelperTables,
    model: LoadModel,
    sets: IntArray,
    *,
    tokens: IntArray,
) -> None:
    """Give tokens without a set the least deviation in reach; changes ``sets``."""
    weights = problem.slot_weights()
    loads = model.loads(sets)
    for t in tokens[np.argsort(-deviation_at_stake(problem, tables)[tokens], kind="stable")]:
        routed, weight = problem.routed_experts[t : t + 1], weights[t : t + 1]
        cost = model.costs(loads)
        cap, _ = caps_with_outage(
            routed, weight, tables.served, tables.base, np.isfinite(cost), problem.budget.value
        )
        found, _ = cover_batch(routed, weight, tables.served, tables.base, cost, cap)
        sets[t] = found[0]
        loads += model.loads(found[0])
