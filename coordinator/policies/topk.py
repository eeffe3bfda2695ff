r"""Top-K and Top-1: the routed experts serve their own slots, at any energy.

These baselines have no budget. Their only choice is the host of an expert that several helpers
hold (``hosting``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.policies.loads.hosting import keep_slots
from siftmoe.coordinator.policies.loads.tables import plan_energy
from siftmoe.coordinator.selection.problem import NOBODY, SelectionPlan, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.selection.problem import SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopK:
    """Keep every slot.

    Parameters
    ----------
    rescale : bool
        Multiply a kept expert's weight by ``problem.scale[i, i]``.
    """

    rescale: bool = False

    def select(self, problem: SelectionProblem) -> SelectionPlan:
        """Send every slot of positive weight to a host of its own expert.

        Returns
        -------
        SelectionPlan
            ``INFEASIBLE`` where an expert has no host that can be reached within its power limit;
            such slots are skipped, those of least weight first.
        """
        started = time.perf_counter()
        chosen = problem.gate_weights > 0.0
        helper = keep_slots(problem, chosen)
        expert = np.where(helper == NOBODY, problem.num_experts, problem.routed_experts)
        return finish_plan(
            problem,
            helper,
            expert,
            rescale=self.rescale,
            status=_status(chosen & (helper == NOBODY)),
            started=started,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TopOne:
    r"""Keep the slot with the largest gate weight.

    Parameters
    ----------
    rescale : bool
        The kept expert also stands in for the dropped slots, with the least-squares factors of
        the problem, where that is better than to skip them: its weight becomes
        :math:`g_1 \alpha_{11} + \sum_i g_i \alpha_{i1}`, at no further transmission. Without
        least-squares factors in the problem's table this changes little.
    """

    rescale: bool = False

    def select(self, problem: SelectionProblem) -> SelectionPlan:
        """Send the heaviest slot of every token to a host of its expert.

        Returns
        -------
        SelectionPlan
            ``INFEASIBLE`` where that expert cannot be reached; the token is skipped then.
        """
        started = time.perf_counter()
        rows = np.arange(problem.num_tokens)
        best = problem.gate_weights.argmax(axis=1)  # [T]
        chosen = np.zeros(problem.routed_experts.shape, dtype=np.bool_)
        chosen[rows, best] = problem.gate_weights[rows, best] > 0.0
        helper = keep_slots(problem, chosen)
        expert = np.where(helper == NOBODY, problem.num_experts, problem.routed_experts)
        outage = chosen & (helper == NOBODY)
        if self.rescale:
            _stand_in(problem, helper, expert, best=best)
        return finish_plan(
            problem,
            helper,
            expert,
            rescale=self.rescale,
            status=_status(outage),
            started=started,
        )


def _status(outage: BoolArray) -> Status:
    return Status.INFEASIBLE if outage.any() else Status.FEASIBLE


def _stand_in(
    problem: SelectionProblem, helper: IntArray, expert: IntArray, *, best: IntArray
) -> None:
    """Serve each token's dropped slots by its kept expert where that deviates less."""
    rows = np.arange(problem.num_tokens)
    host = helper[rows, best][:, None]  # [T, 1]
    kept = problem.routed_experts[rows, best][:, None]  # [T, 1]
    routed = problem.routed_experts
    better = problem.deviation[routed, kept] < problem.deviation[routed, problem.num_experts]
    use = better & (helper == NOBODY) & (host != NOBODY)  # [T, K]
    helper[use] = np.broadcast_to(host, use.shape)[use]
    expert[use] = np.broadcast_to(kept, use.shape)[use]


def finish_plan(
    problem: SelectionProblem,
    helper: IntArray,
    expert: IntArray,
    *,
    rescale: bool,
    status: Status,
    started: float,
    width: IntArray | None = None,
    reply_width: IntArray | None = None,
) -> SelectionPlan:
    """Weights, deviation and energy of an assignment.

    Parameters
    ----------
    problem : SelectionProblem
    helper, expert : (T, K) int64
        As in ``SelectionPlan``.
    rescale : bool
        Apply the problem's scale.
    status : Status
    started : float, s
        ``time.perf_counter()`` at the policy's start.
    width : (T, K) int64 or None
        As in ``SelectionPlan``; by default the problem's one width.
    reply_width : (T, K) int64 or None
        As in ``SelectionPlan``.
    """
    if width is None:
        width = np.where(helper >= 0, problem.width, 0)
    factor = problem.serving_scale(expert, width) if rescale else 1.0
    served = problem.serving_deviation(expert, width, reply_width)
    deviation = problem.slot_weights() * served  # [T, K]
    plan = SelectionPlan(
        helper=helper,
        expert=expert,
        weight=np.where(helper == NOBODY, 0.0, problem.gate_weights * factor),
        width=width,
        reply_width=reply_width,
        status=status,
        energy_j=float("nan"),
        lower_bound_j=float("nan"),
        deviation=deviation.sum(axis=1),
    )
    energy_j = plan_energy(problem, plan)
    return replace(plan, energy_j=energy_j, solve_s=time.perf_counter() - started)
