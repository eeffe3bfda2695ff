"""Policies as restrictions of SiftMoE's problem: fewer options, or another deviation.

The full solver solves the restricted problem; the plan's deviation is then computed in the units of
the original problem, for comparison with other policies.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.policies.siftmoe import SiftMoE
from siftmoe.coordinator.policies.topk import finish_plan
from siftmoe.coordinator.selection.problem import Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.selection.problem import SelectionPlan, SelectionProblem

    FloatArray = NDArray[np.float64]


def only_skips(*, keep: FloatArray, skip: FloatArray) -> FloatArray:
    """Deviation table (..., E, E+1) in which no expert stands in for another.

    Parameters
    ----------
    keep, skip : (..., E) float64
        Deviation of serving an expert's slot by itself, and of skipping it.
    """
    experts = keep.shape[-1]
    table = np.full((*keep.shape, experts + 1), np.inf)
    table[..., range(experts), range(experts)] = keep
    table[..., experts] = skip
    return table


def without_replacement(problem: SelectionProblem) -> SelectionProblem:
    """Return the problem with every replacement forbidden, at every width."""

    def forbid(deviation: FloatArray) -> FloatArray:
        own = np.diagonal(deviation, axis1=-2, axis2=-1)
        return only_skips(keep=own, skip=deviation[..., -1])

    precision = problem.precision
    if precision is not None:
        precision = replace(precision, deviation=forbid(precision.deviation))
    return replace(problem, deviation=forbid(problem.deviation), precision=precision)


def solve_restricted(
    problem: SelectionProblem,
    restricted: SelectionProblem,
    *,
    solver: SiftMoE,
    rescale: bool,
) -> SelectionPlan:
    """Solve ``restricted`` and convert its plan to one of ``problem``.

    Parameters
    ----------
    problem, restricted : SelectionProblem
        The same tokens, experts, hosts and energies.
    solver : SiftMoE
    rescale : bool
        Apply the scale of ``problem``.

    Returns
    -------
    SelectionPlan
        ``FEASIBLE`` or ``INFEASIBLE`` in the sense of ``restricted``. Without a lower bound, since
        nothing is proved about the optimum of ``problem``.
    """
    started = time.perf_counter()
    plan = solver.select(restricted)
    status = Status.INFEASIBLE if plan.status is Status.INFEASIBLE else Status.FEASIBLE
    return finish_plan(
        problem,
        plan.helper,
        plan.expert,
        width=plan.width,
        reply_width=plan.reply_width,
        rescale=rescale,
        status=status,
        started=started,
    )


def unit_scale(problem: SelectionProblem) -> SelectionProblem:
    """Return the problem without scales and factors per token."""
    return replace(problem, scale=np.ones_like(problem.scale), token_factor=None)
