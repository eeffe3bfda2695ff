"""Solves one instance: helper sets of least energy, or the division of a band."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.coordinator.policies.siftmoe import plan_objective
from siftmoe.coordinator.policies.wdmoe.bandwidth import allocate_bandwidth
from siftmoe.coordinator.selection.on_air import heard
from siftmoe.coordinator.selection.problem import Status
from siftmoe.tools.solving.broadcast import broadcast_problem
from siftmoe.tools.solving.instance_file import (
    BandwidthInstance,
    SelectionInstance,
    selection_problem,
)

if TYPE_CHECKING:
    from siftmoe.tools.solving.instance_file import Broadcast, Instance
    from siftmoe.tools.solving.policy import Policy


def solve(instance: Instance, policy: Policy) -> dict[str, Any]:
    """Solve an instance; returns the fields of the command's JSON object."""
    if isinstance(instance, BandwidthInstance):
        return divide_band(instance)
    return _select(instance, policy)


def _select(instance: SelectionInstance | Broadcast, policy: Policy) -> dict[str, Any]:
    """Helpers that get each token; in a broadcast, that hear it."""
    if isinstance(instance, SelectionInstance):
        problem = selection_problem(instance)
    else:
        problem = broadcast_problem(instance)
    plan = policy(problem)
    served = plan.status is not Status.INFEASIBLE
    bound = plan.lower_bound_j if served and math.isfinite(plan.lower_bound_j) else None
    return {
        "status": plan.status.value,
        "objective": plan_objective(problem, plan) if served else None,
        "lower_bound": bound,
        "helpers": plan.helper_sets() if problem.medium is None else heard(problem.medium, plan),
        "bandwidth_hz": None,
        "solve_s": plan.solve_s,
    }


def divide_band(instance: BandwidthInstance) -> dict[str, Any]:
    """Divide the band of an instance of family w so that the slowest device is fastest."""
    began = time.perf_counter()
    latency_s, bandwidth_hz = allocate_bandwidth(
        tokens=np.array(instance.tokens),
        compute_s=np.array(instance.compute_s),
        downlink_bits=instance.downlink_bits,
        uplink_bits=instance.uplink_bits,
        downlink_power_w=np.array(instance.downlink_power_w),
        downlink_gain=np.array(instance.downlink_gain),
        uplink_power_w=np.array(instance.uplink_power_w),
        uplink_gain=np.array(instance.uplink_gain),
        noise_psd=instance.noise_psd,
        bandwidth_hz=instance.bandwidth_hz,
    )
    solve_s = time.perf_counter() - began
    return {
        "status": "optimal",
        "objective": float(latency_s),
        "lower_bound": float(latency_s),
        "helpers": None,
        "bandwidth_hz": [float(b) for b in bandwidth_hz],
        "solve_s": solve_s,
    }
