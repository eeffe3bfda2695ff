"""Reselection of a single token's helpers between the blocks of a fast-fading window."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.coordinator.energy.pricing import separate_pricing
from siftmoe.coordinator.selection.problem import BudgetKind, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.selection.policy import Policy
    from siftmoe.coordinator.selection.problem import SelectionPlan, SelectionProblem

    FloatArray = NDArray[np.float64]

#: A token changes helpers only if that saves more than this share: less is rounding.
_LEAST_GAIN: Final = 1e-9


def select_again(
    problem: SelectionProblem, plan: SelectionPlan, cost_j: FloatArray, policy: Policy
) -> SelectionPlan:
    """Replace the plan by the policy's present one if that costs less than to continue.

    Parameters
    ----------
    problem : SelectionProblem
        Of one token; its energies are replaced.
    plan : SelectionPlan
        The plan being sent; its predicted energy and its lower bound are kept.
    cost_j : (N, B, V) float64, J
        Remaining cost of each helper at each width to it and back.
    policy : callable
    """
    now = _objective(problem, plan, cost_j)
    if plan.status is Status.INFEASIBLE or now == 0.0:
        return plan
    again = _one_width_each(problem, policy(_on_its_way(problem, cost_j)))
    if again.status is Status.INFEASIBLE:
        return plan
    solve_s = plan.solve_s + again.solve_s
    if not _objective(problem, again, cost_j) < now * (1.0 - _LEAST_GAIN):
        return replace(plan, solve_s=solve_s)
    return replace(
        again,
        status=plan.status,
        energy_j=plan.energy_j,
        lower_bound_j=plan.lower_bound_j,
        solve_s=solve_s,
    )


def _on_its_way(problem: SelectionProblem, cost_j: FloatArray) -> SelectionProblem:
    """State the token's problem with the remaining cost of each way."""
    cost = cost_j.reshape(-1)
    energy = np.stack([np.zeros_like(cost), cost], axis=1)
    if problem.precision is None:
        return replace(problem, energy=energy)
    pricing = separate_pricing(cost_j, tokens=1)
    return replace(problem, energy=energy, precision=problem.precision.priced(pricing))


def _one_width_each(problem: SelectionProblem, plan: SelectionPlan) -> SelectionPlan:
    """Send all slots of one helper at the widest of its widths, each way.

    The deviation does not grow. A policy uses two widths to one helper only where one of them has
    arrived already and costs nothing more.
    """
    helper = plan.helper[0]
    together = (helper[:, None] == helper) & (helper >= 0)  # [K, K]
    width = np.where(together, plan.width[0], 0).max(axis=1)[None]  # [1, K]
    reply, same = plan.reply_width, np.array_equal(width, plan.width)
    if plan.reply_width is not None:
        reply = np.where(together, plan.reply_width[0], 0).max(axis=1)[None]
        same = same and np.array_equal(reply, plan.reply_width)
    if same:
        return plan
    served = problem.serving_deviation(plan.expert, width, reply)
    return replace(
        plan,
        width=width,
        reply_width=reply,
        weight=problem.gate_weights * problem.serving_scale(plan.expert, width),
        deviation=(problem.slot_weights() * served).sum(axis=1),
    )


def _objective(problem: SelectionProblem, plan: SelectionPlan, cost_j: FloatArray) -> float:
    """Remaining cost of a single token's plan, J: energy, and deviation if it is priced."""
    precision = problem.precision
    if precision is None:
        used = np.unique(plan.helper[plan.helper >= 0])
    else:
        way = precision.way_of(plan.helper, plan.width, plan.reply_width)
        used = np.unique(way[way >= 0])
    energy = float(cost_j.reshape(-1)[used].sum())
    if problem.budget.kind is BudgetKind.PRICE and problem.budget.value > 0.0:
        energy += problem.budget.value * float(plan.deviation.sum())
    return energy
