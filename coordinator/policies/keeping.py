"""Makes a plan from the slots to keep, for custom policies that keep or skip."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.policies.loads.hosting import keep_slots
from siftmoe.coordinator.policies.topk import finish_plan
from siftmoe.coordinator.selection.problem import NOBODY, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.selection.problem import SelectionPlan, SelectionProblem


def plan_keeping(problem: SelectionProblem, slots: NDArray[np.bool_]) -> SelectionPlan:
    """Make the plan that keeps these slots and skips the others.

    Parameters
    ----------
    problem : SelectionProblem
    slots : (T, K) bool
        Slots to keep; those of weight 0 need no host.

    Returns
    -------
    SelectionPlan
        Each slot on the host that costs least at the plan's loads; ``INFEASIBLE`` where an expert
        to keep has no host in reach, which is skipped then.

    Raises
    ------
    ValueError
        If the shape is not (T, K), or the problem leaves widths to choose.
    """
    started = time.perf_counter()
    if slots.shape != problem.routed_experts.shape:
        raise ValueError(f"slots must have shape {problem.routed_experts.shape}, got {slots.shape}")
    wanted = slots & (problem.gate_weights > 0.0)
    helper = keep_slots(problem, wanted)
    outage = bool((wanted & (helper == NOBODY)).any())
    return finish_plan(
        problem,
        helper,
        np.where(helper == NOBODY, problem.num_experts, problem.routed_experts),
        rescale=False,
        status=Status.INFEASIBLE if outage else Status.FEASIBLE,
        started=started,
    )
