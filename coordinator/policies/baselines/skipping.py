r"""Baselines without replacements: skipping by deviation, and by the gate weight alone.

`SkipOnly` keeps or skips with the same deviations and solver as SiftMoE. `GatePrice` uses only the
gate: it drops slots that cost more than :math:`\lambda g^2`, the strong simple baseline of
docs/explanation/theory.md, section 8.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from siftmoe.coordinator.policies.baselines.restriction import (
    only_skips,
    solve_restricted,
    unit_scale,
    without_replacement,
)
from siftmoe.coordinator.policies.siftmoe import SiftMoE
from siftmoe.coordinator.selection.policy import BUDGETS
from siftmoe.coordinator.selection.problem import BudgetKind

if TYPE_CHECKING:
    from siftmoe.coordinator.selection.problem import SelectionPlan, SelectionProblem


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipOnly:
    """SiftMoE without replacements: every slot is kept or skipped.

    Parameters
    ----------
    solver : SiftMoE
    """

    budgets: ClassVar = BUDGETS
    chooses_widths: ClassVar = True

    solver: SiftMoE = field(default_factory=SiftMoE)

    def select(self, problem: SelectionProblem) -> SelectionPlan:
        """Solve the problem with every replacement forbidden; any kind of budget.

        Returns
        -------
        SelectionPlan
            ``INFEASIBLE`` where the experts in reach do not meet the budget.
        """
        restricted = without_replacement(problem)
        return solve_restricted(problem, restricted, solver=self.solver, rescale=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePrice:
    r"""Drop by a price on the squared gate weight alone.

    .. math:: \min_S \sum_n e_n(q_n) + \lambda \sum_{t,i\ \text{skipped}} g_{t,i}^2

    The budget must be a price, its value :math:`\lambda` in joule. The deviation table is used
    only to report the plan's deviation.

    Parameters
    ----------
    solver : SiftMoE
    """

    budgets: ClassVar = ("price",)

    solver: SiftMoE = field(default_factory=SiftMoE)

    def select(self, problem: SelectionProblem) -> SelectionPlan:
        """Solve the price form with :math:`g^2` as the deviation of a skipped slot.

        Raises
        ------
        ValueError
            If the budget is not a price.
        """
        if problem.budget.kind is not BudgetKind.PRICE:
            raise ValueError(
                f"gate-price needs a budget of kind {BudgetKind.PRICE.value!r}, "
                f"got {problem.budget.kind.value!r}"
            )
        experts = problem.num_experts
        table = only_skips(keep=np.zeros(experts), skip=np.ones(experts))
        restricted = replace(unit_scale(problem), deviation=table, weight_power=2)
        return solve_restricted(problem, restricted, solver=self.solver, rescale=False)
