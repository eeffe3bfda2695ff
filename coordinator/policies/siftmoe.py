r"""The SiftMoE policy: least transmit energy within a deviation budget.

The idea of similarity-aware selection, its per-token budget and the split into decoding and
prefilling are those of SiftMoE (arXiv 2603.23888). The algorithms, the certificates and the
average and price budgets are our own; docs/explanation/theory.md says which is which.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from siftmoe.coordinator.compiled import plain
from siftmoe.coordinator.policies.batch.average import prefill_priced, select_average
from siftmoe.coordinator.policies.batch.prefill import prefill_capped
from siftmoe.coordinator.policies.broadcast.select import select_in_band
from siftmoe.coordinator.policies.loads.effort import Effort
from siftmoe.coordinator.policies.loads.model import model_loads
from siftmoe.coordinator.policies.loads.pruning import without_dominated
from siftmoe.coordinator.policies.loads.tables import build_tables, plan_from_sets
from siftmoe.coordinator.policies.token.decode import decode_capped, decode_priced
from siftmoe.coordinator.selection.policy import BUDGETS
from siftmoe.coordinator.selection.problem import BudgetKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.policies.loads.tables import HelperTables
    from siftmoe.coordinator.selection.problem import SelectionPlan, SelectionProblem, Status

    IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SiftMoE(Effort):
    """Select helpers so that the energy is least within the problem's budget.

    Tokens that do not influence each other (a single one, or an energy linear in the load) are
    solved exactly, and so is a single slot per token under a per-token budget. All else is
    near-optimal, within the gap of a certificate. Where all helpers share one band
    (``problem.medium``) see ``siftmoe.coordinator.policies.broadcast``. Fields: see ``Effort``.
    """

    budgets: ClassVar = BUDGETS
    chooses_widths: ClassVar = True

    def select(self, problem: SelectionProblem) -> SelectionPlan:
        """Solve one problem.

        Raises
        ------
        ValueError
            If the energy table or a deviation is not what ``SelectionProblem`` states.
        """
        began = time.perf_counter()
        problem = replace(
            problem,
            routed_experts=plain(problem.routed_experts, np.int64),
            gate_weights=plain(problem.gate_weights, np.float64),
        )
        tables = build_tables(problem)
        if problem.medium is not None:
            found = select_in_band(problem, tables, problem.medium)
        else:
            tables, found = self._by_loads(problem, tables)
        sets, status, bound = found
        plan = plan_from_sets(problem, tables, sets, status=status, lower_bound_j=bound)
        # sums in another order may put a tight bound a rounding error above the plan
        if not math.isnan(bound):
            bound = min(max(bound, 0.0), plan_objective(problem, plan))
        return replace(plan, lower_bound_j=bound, solve_s=time.perf_counter() - began)

    def _by_loads(
        self, problem: SelectionProblem, tables: HelperTables
    ) -> tuple[HelperTables, tuple[IntArray, Status, float]]:
        """Solve where every helper has a band of its own; the tables of the ways that count."""
        tables, model = without_dominated(problem, tables, model_loads(problem))
        kind = problem.budget.kind
        if kind is BudgetKind.PER_TOKEN and model.independent:
            return tables, decode_capped(problem, tables, model)
        if kind is BudgetKind.PER_TOKEN:
            return tables, prefill_capped(problem, tables, model, self)
        if kind is BudgetKind.PRICE and model.independent:
            return tables, decode_priced(problem, tables, model)
        if kind is BudgetKind.PRICE:
            return tables, prefill_priced(problem, tables, model, self)
        return tables, select_average(problem, tables, model, self)


def plan_objective(problem: SelectionProblem, plan: SelectionPlan) -> float:
    """Return the objective of a plan, J: energy, plus priced deviation under a price."""
    if problem.budget.kind is BudgetKind.PRICE:
        return plan.energy_j + problem.budget.value * float(plan.deviation.sum())
    return plan.energy_j
