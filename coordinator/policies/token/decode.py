r"""Tokens that do not influence each other: every set is optimal by itself.

A single token, or many at a constant energy per token (:math:`e_n(q) = q\,c_n`, no capacity in
reach). docs/explanation/theory.md, section 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from siftmoe.coordinator.policies.token.cover import caps_with_outage, cover_batch
from siftmoe.coordinator.policies.token.exclusive import one_way_each
from siftmoe.coordinator.policies.token.price import price_batch
from siftmoe.coordinator.selection.problem import Status

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from siftmoe.coordinator.policies.loads.model import LoadModel
    from siftmoe.coordinator.policies.loads.tables import HelperTables
    from siftmoe.coordinator.selection.problem import SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


def decode_capped(
    problem: SelectionProblem, tables: HelperTables, model: LoadModel
) -> tuple[IntArray, Status, float]:
    """Choose the cheapest sets (T, K) under a cap per token, with status and lower bound."""
    weights = problem.slot_weights()
    cap, outage = caps_with_outage(
        problem.routed_experts,
        weights,
        tables.served,
        tables.base,
        model.reachable,
        problem.budget.value,
    )
    routed = problem.routed_experts

    def solve(tokens: IntArray, cost: FloatArray) -> tuple[IntArray, FloatArray]:
        chosen = routed[tokens], weights[tokens]
        return cover_batch(*chosen, tables.served, tables.base, cost, cap[tokens])

    sets, cost = one_way_each(
        solve, model.first, tokens=problem.num_tokens, helper=tables.exclusive(problem)
    )
    if outage.any():
        return sets, Status.INFEASIBLE, float("nan")
    return sets, Status.OPTIMAL, float(cost.sum())


def decode_priced(
    problem: SelectionProblem, tables: HelperTables, model: LoadModel
) -> tuple[IntArray, Status, float]:
    """Choose sets (T, K) of least energy plus priced deviation, as ``decode_capped``."""
    routed, weights = problem.routed_experts, problem.slot_weights()

    def solve(tokens: IntArray, cost: FloatArray) -> tuple[IntArray, FloatArray]:
        chosen = routed[tokens], weights[tokens]
        return price_batch(*chosen, tables.served, tables.base, cost, problem.budget.value)

    sets, value = one_way_each(
        solve, model.first, tokens=problem.num_tokens, helper=tables.exclusive(problem)
    )
    return sets, Status.OPTIMAL, float(value.sum())
