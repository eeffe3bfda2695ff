r"""Recovery from helpers that fail within a layer: the remaining problem, and the joint plan.

Results that have arrived are kept. For each token that lacks a result, all slots without one are
selected again, including those that the plan had skipped, with the rest of the layer's budget:

.. math:: \sum_{i\ \text{open}} d_{t,i} \le \epsilon - \sum_{i\ \text{closed}} d_{t,i}

for every token; summed over the batch for an average budget; a price has no bound. This is this
project's own (docs/explanation/faults.md). Slots that no helper serves in the end are skipped at
the deviation of a skip, and no weight is renormalised.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siftmoe.coordinator.selection.layer_problem import fill_empty_slots
from siftmoe.coordinator.selection.problem import NOBODY, Budget, BudgetKind, SelectionPlan, Status

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from siftmoe.coordinator.energy.pricing import Pricing
    from siftmoe.coordinator.selection.problem import SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

#: Factor on the deviations of a token whose budget is spent: any addition exceeds it.
_SPENT: Final = 1e9
#: Fields of a plan per slot, (T, K).
_SLOTS: Final = ("helper", "expert", "weight", "width")


def unserved(plan: SelectionPlan, helpers: Collection[int]) -> BoolArray:
    """Mark the slots, (T, K), that a plan assigns to these helpers."""
    return np.isin(plan.helper, list(helpers))


def slot_deviation(problem: SelectionProblem, plan: SelectionPlan) -> FloatArray:
    """Deviation of every slot as planned, (T, K); a slot without weight has none."""
    weights = problem.slot_weights()
    deviation = problem.serving_deviation(plan.expert, plan.width, plan.reply_width)
    return np.where(weights > 0.0, weights * deviation, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Remainder:
    """The part of a layer that is selected again.

    Parameters
    ----------
    rows : (R,) int64
        Tokens that lack a result.
    open : (R, K) bool
        Their slots that may be served.
    routed_experts, gate_weights : (R, K)
        Closed slots are weightless copies of open ones, see `fill_empty_slots`.
    budget : Budget
    token_factor : (R, K) float64
        Scales a token's deviations so that the common budget bounds the rest of its own.
    router_logits : (R, E) or None
        Of the model's router; -inf for experts that have served a closed slot.
    """

    rows: IntArray
    open: BoolArray
    routed_experts: IntArray
    gate_weights: FloatArray
    budget: Budget
    token_factor: FloatArray
    router_logits: FloatArray | None = None

    def problem(
        self, whole: SelectionProblem, *, hosts: BoolArray, pricing: Pricing
    ) -> SelectionProblem:
        """State the remaining problem on the remaining helpers."""
        precision = whole.precision
        if precision is not None:
            precision = precision.priced(pricing)
        return replace(
            whole,
            routed_experts=self.routed_experts,
            gate_weights=self.gate_weights,
            hosts=hosts,
            energy=pricing.energy_j,
            budget=self.budget,
            token_factor=self.token_factor,
            precision=precision,
            router_logits=self.router_logits,
            medium=pricing.medium,
        )


def remainder(
    problem: SelectionProblem, plan: SelectionPlan, lacking: BoolArray, *, closed: BoolArray
) -> Remainder:
    """Find the part of a layer that must be selected again.

    Parameters
    ----------
    problem : SelectionProblem
        Of the whole layer.
    plan : SelectionPlan
        As far as it was carried out.
    lacking : (T, K) bool
        Slots whose helper failed; at least one.
    closed : (T, K) bool
        Slots that must not be served: empty ones, and those lost on the air.
    """
    rows = np.flatnonzero(lacking.any(axis=1))
    skipped = (plan.helper == NOBODY) & (problem.gate_weights > 0.0) & ~closed
    is_open = (lacking | skipped)[rows]  # [R, K]
    none = problem.num_experts
    routed, weights, _ = fill_empty_slots(
        np.where(is_open, problem.routed_experts[rows], none),
        problem.gate_weights[rows],
        num_experts=none,
    )
    spent = slot_deviation(problem, plan)
    spent[rows] = np.where(is_open, 0.0, spent[rows])
    budget, factor = _what_is_left(problem, spent.sum(axis=1), rows)
    own = np.ones_like(weights) if problem.token_factor is None else problem.token_factor[rows]
    return Remainder(
        rows=rows,
        open=is_open,
        routed_experts=routed,
        gate_weights=weights,
        budget=budget,
        token_factor=own * factor[:, None],
        router_logits=_logits_left(problem, plan, rows, is_open),
    )


def _logits_left(
    problem: SelectionProblem, plan: SelectionPlan, rows: IntArray, is_open: BoolArray
) -> FloatArray | None:
    """Logits of the remainder's tokens without the experts that have served them."""
    if problem.router_logits is None:
        return None
    served = np.where(is_open, problem.num_experts, plan.expert[rows])  # [R, K]
    logits = np.pad(problem.router_logits[rows], ((0, 0), (0, 1)))  # [R, E+1], last: nobody
    np.put_along_axis(logits, served, -np.inf, axis=1)
    return logits[:, :-1]


def _what_is_left(
    problem: SelectionProblem, spent: FloatArray, rows: IntArray
) -> tuple[Budget, FloatArray]:
    """Budget of the remainder and its tokens' factors, (R,), from each token's deviation."""
    budget, factor = problem.budget, np.ones(len(rows))
    if not np.isfinite(spent).all():  # deviations are unknown without a profile: no budget
        return budget, factor
    if budget.kind is BudgetKind.AVERAGE:
        left = problem.num_tokens * budget.value - float(spent.sum())
        return replace(budget, value=max(0.0, left) / len(rows)), factor
    if budget.kind is BudgetKind.PER_TOKEN and budget.value > 0.0:
        left_of = budget.value - spent[rows]
        enough = left_of > budget.value / _SPENT
        factor = np.where(enough, budget.value / np.where(enough, left_of, 1.0), _SPENT)
    return budget, factor


def joined(
    problem: SelectionProblem, plan: SelectionPlan, rest: Remainder, second: SelectionPlan
) -> SelectionPlan:
    """Join a plan and the plan of its remainder.

    Their energies add up, since both were sent. The joint plan has no lower bound.

    Parameters
    ----------
    problem : SelectionProblem
        Of the whole layer.
    plan : SelectionPlan
    rest : Remainder
    second : SelectionPlan
        Of the remainder.
    """
    rows = rest.rows
    slots = {}
    for name in _SLOTS if plan.reply_width is None else (*_SLOTS, "reply_width"):
        slots[name] = getattr(plan, name).copy()
        slots[name][rows] = np.where(rest.open, getattr(second, name), slots[name][rows])
    infeasible = Status.INFEASIBLE in (plan.status, second.status)
    return _with_slots(
        problem,
        replace(
            plan,
            status=Status.INFEASIBLE if infeasible else Status.FEASIBLE,
            energy_j=plan.energy_j + second.energy_j,
            lower_bound_j=float("nan"),
            solve_s=plan.solve_s + second.solve_s,
        ),
        slots,
    )


def given_up(problem: SelectionProblem, plan: SelectionPlan, lacking: BoolArray) -> SelectionPlan:
    """Skip the slots that no helper served in time: least deviation given the arrived results."""
    slots = {
        "helper": np.where(lacking, NOBODY, plan.helper),
        "expert": np.where(lacking, problem.num_experts, plan.expert),
        "weight": np.where(lacking, 0.0, plan.weight),
        "width": np.where(lacking, 0, plan.width),
    }
    if plan.reply_width is not None:
        slots["reply_width"] = np.where(lacking, 0, plan.reply_width)
    short = replace(plan, status=Status.INFEASIBLE, lower_bound_j=float("nan"))
    return _with_slots(problem, short, slots)


def _with_slots(
    problem: SelectionProblem,
    plan: SelectionPlan,
    slots: dict[str, Any],
) -> SelectionPlan:
    """Replace a plan's slots; the deviation of tokens with a changed slot is computed again."""
    differs = (slots["expert"] != plan.expert) | (slots["width"] != plan.width)
    changed = differs.any(axis=1)  # [T]
    plan_now = replace(plan, **slots)
    counted = slot_deviation(problem, plan_now).sum(axis=1)
    return replace(plan_now, deviation=np.where(changed, counted, plan.deviation))
