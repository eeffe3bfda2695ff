r"""Many tokens under a deviation cap each, at energies that are convex in the loads.

.. math:: \min_{S_t} \sum_n e_n(q_n) \quad \text{s.t.} \quad D_t(S_t) \le \epsilon, \;
          q_n = \#\{t : n \in S_t\} \le Q_n

One slot per token: exact. More: over each token's minimal sets where they can be listed
(``listed``), by best response with an exact oracle where they cannot (``response``), nor where
vectors of several widths share a window.

Outage is explicit: a token that the reachable helpers together cannot bring under the cap gets
the least deviation there is, and so do tokens for which capacity is short; either makes the
plan ``INFEASIBLE``. docs/explanation/theory.md, section 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.policies.batch.flow import (
    assign_groups,
    group_by_reach,
    hand_out,
    pack_sets,
)
from siftmoe.coordinator.policies.batch.listed import ListedSearch
from siftmoe.coordinator.policies.batch.outage import serve_leftover, shed_overflow
from siftmoe.coordinator.policies.batch.response import respond_capped
from siftmoe.coordinator.policies.certificates.columns import list_columns
from siftmoe.coordinator.policies.loads.tables import deviation_at_stake
from siftmoe.coordinator.policies.token.cover import caps_with_outage
from siftmoe.coordinator.selection.problem import Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.policies.loads.effort import Effort
    from siftmoe.coordinator.policies.loads.model import LoadModel
    from siftmoe.coordinator.policies.loads.tables import HelperTables
    from siftmoe.coordinator.selection.problem import SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: A gap of this share of the objective counts as none.
OPTIMAL_GAP = 1e-9


def prefill_capped(
    problem: SelectionProblem, tables: HelperTables, model: LoadModel, effort: Effort
) -> tuple[IntArray, Status, float]:
    """Choose sets (T, K), with what is proven of them and the lower bound (NaN if none)."""
    weights = problem.slot_weights()
    cap, outage = caps_with_outage(
        problem.routed_experts,
        weights,
        tables.served,
        tables.base,
        model.reachable,
        problem.budget.value,
    )
    alone = deviation_at_stake(problem, tables)
    needy = np.flatnonzero(alone > cap)
    sets = np.full(problem.routed_experts.shape, -1, dtype=np.int64)
    if problem.top_k == 1 and model.by_unit:
        bound = _single_slots(problem, tables, model, needy[~outage[needy]], sets)
        left = np.flatnonzero((alone > cap) & (sets[:, 0] < 0))
    else:
        bound = _many_slots(problem, tables, model, effort, needy, cap, sets)
        left = shed_overflow(problem, tables, model, sets)
    serve_leftover(problem, tables, model, sets, tokens=left)
    if left.size or outage.any():
        return sets, Status.INFEASIBLE, float("nan")
    energy = model.total(model.loads(sets))
    closed = energy - bound <= OPTIMAL_GAP * energy
    return sets, Status.OPTIMAL if closed else Status.FEASIBLE, bound


def _single_slots(
    problem: SelectionProblem,
    tables: HelperTables,
    model: LoadModel,
    tokens: IntArray,
    sets: IntArray,
) -> float:
    """Serve as many of ``tokens`` as can be, exactly; fills ``sets`` and returns the energy."""
    expert, weight = problem.routed_experts[tokens, 0], problem.slot_weights()[tokens, 0]
    slack = 1e-12 * (1.0 + problem.budget.value)
    group, allowed = group_by_reach(
        expert=expert,
        weight=weight,
        served=tables.served,
        reachable=model.reachable,
        cap=problem.budget.value + slack,
    )
    order = np.argsort(-weight * tables.base[expert], kind="stable")
    assigned, loads, placed = assign_groups(group, pack_sets(allowed), model.marginal, order)
    sets[tokens, 0] = hand_out(group, assigned, placed)
    return model.total(loads)


def _many_slots(
    problem: SelectionProblem,
    tables: HelperTables,
    model: LoadModel,
    effort: Effort,
    tokens: IntArray,
    cap: FloatArray,
    sets: IntArray,
) -> float:
    """Fill ``sets`` of ``tokens``, maybe beyond capacities, and return the lower bound."""
    routed, weights = problem.routed_experts[tokens], problem.slot_weights()[tokens]
    columns = None
    if model.by_unit and routed.shape[1] > 1:
        columns = list_columns(
            routed=routed,
            weights=weights,
            served=tables.served,
            base=tables.base,
            reachable=model.reachable,
            cap=cap[tokens],
        )
    if columns is None:
        sets[tokens], bound = respond_capped(
            routed, weights, tables=tables, model=model, cap=cap[tokens], effort=effort
        )
        return bound
    rows, bound = ListedSearch(columns, model, effort).solve()
    members = columns.helper[rows].astype(np.int64)  # [M, K]
    sets[tokens] = np.where(members < problem.num_helpers, members, -1)
    return bound
