r"""Least energy that keeps a share of every token's gate weight.

.. math:: \min_S \sum_n e_n(q_n) \quad \text{s.t.} \quad
          \sum_{i\ \text{kept}} g_{t,i} \ge \theta \sum_i g_{t,i} \quad \forall t

A baseline in the manner of dynamic expert selection (Qin et al., arXiv 2503.13421): the gate
weight stands for an expert's importance, and a token's experts are found by tree search with a
linear relaxation as the bound. Applied to the router's own K experts, with one transmission per
(token, helper): these are this project's choices. With a skipped slot's share of the weight as
its deviation and no replacements, it is the problem that ``cover`` solves by exactly such a
search.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.policies.baselines.restriction import (
    only_skips,
    solve_restricted,
    unit_scale,
)
from siftmoe.coordinator.policies.siftmoe import SiftMoE
from siftmoe.coordinator.selection.problem import Budget, BudgetKind

if TYPE_CHECKING:
    from siftmoe.coordinator.selection.problem import SelectionPlan, SelectionProblem


@dataclass(frozen=True, slots=True, kw_only=True)
class Des:
    """Dynamic expert selection by a threshold on the kept gate weight.

    Parameters
    ----------
    threshold : float
        Share of a token's gate weight that must be kept, in [0, 1].
    solver : SiftMoE
    """

    threshold: float = 0.7
    solver: SiftMoE = field(default_factory=SiftMoE)

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"des: threshold must lie in [0, 1], got {self.threshold}")

    def select(self, problem: SelectionProblem) -> SelectionPlan:
        """Keep the cheapest slots that reach the threshold; the problem's budget is not used.

        Returns
        -------
        SelectionPlan
            ``INFEASIBLE`` where the experts in reach do not reach the threshold; as much weight
            as can be is kept then.
        """
        experts = problem.num_experts
        total = problem.gate_weights.sum(axis=1, keepdims=True)  # [T, 1]
        share = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0.0)
        restricted = replace(
            unit_scale(problem),
            deviation=only_skips(keep=np.zeros(experts), skip=np.ones(experts)),
            weight_power=1,
            token_factor=np.broadcast_to(share, problem.gate_weights.shape),
            budget=Budget(kind=BudgetKind.PER_TOKEN, value=1.0 - self.threshold),
        )
        return solve_restricted(problem, restricted, solver=self.solver, rescale=False)
