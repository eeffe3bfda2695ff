"""Solve selection instances: which helpers serve which tokens, at least energy, with proof.

Instances are JSON files (see siftmoe.tools.instance_file). With --json each line of the output
is one object: file, family, status (optimal, feasible or infeasible), objective (joule; seconds
for family w; null if infeasible), lower_bound, helpers (one list per token), bandwidth_hz
(family w) and solve_s. An infeasible instance is answered with the helpers that come nearest.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from siftmoe.coordinator.selection.problem import SelectionPlan, SelectionProblem
    from siftmoe.tools.instance_file import BandwidthInstance, Instance, SelectionInstance

    Policy = Callable[[SelectionProblem], SelectionPlan]

SUMMARY = "solve selection instances, with proof"

#: Rounds of local search and of cutting planes, and seconds of the closing integer program, that
#: an instance may take where the policy can be told so and the gap is not closed before.
_ROUNDS, _CUTS = 4000, 60
_DEFAULT_LIMIT_S = 20.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="instance, JSON")
    parser.add_argument(
        "--policy", default="siftmoe", metavar="NAME", help="policy to use (default: siftmoe)"
    )
    parser.add_argument(
        "--certificate",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="siftmoe: prove a lower bound and close the gap; without, the first good plan",
    )
    parser.add_argument(
        "--limit-s",
        type=float,
        default=_DEFAULT_LIMIT_S,
        metavar="SECONDS",
        help="siftmoe: time for the program that closes the gap (default: %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.epilog = "example: siftmoe solve instance.json --json"


def run(args: argparse.Namespace) -> int:
    """Solve every file; returns the exit status."""
    from siftmoe.tools.instance_file import read_instance

    instances = [(file, read_instance(file)) for file in args.files]
    policy = _policy(args)
    _warm_up(policy)
    answers = []
    for file, instance in instances:
        answer = {"file": file, "family": instance.family, **_solve(instance, policy)}
        if args.json:
            print(json.dumps(answer), flush=True)
        answers.append(answer)
    if not args.json:
        _show(answers)
    return 0


def _policy(args: argparse.Namespace) -> Policy:
    from siftmoe.coordinator.policies.registry import make_policy

    if args.policy != "siftmoe":
        return make_policy(args.policy)
    if not args.certificate:
        return make_policy("siftmoe")
    return make_policy(
        "siftmoe", certificate=True, rounds=_ROUNDS, cuts=_CUTS, closing_s=args.limit_s
    )


def _warm_up(policy: Policy) -> None:
    """Load compiled code before anything is timed: many tokens and one, one slot and two."""
    from siftmoe.tools.instance_file import (
        BandwidthInstance,
        SelectionInstance,
        selection_problem,
    )

    for tokens, slots in ((1, 2), (2, 1), (2, 2)):
        toy = SelectionInstance(
            family="b2",
            num_experts=2,
            top_k=slots,
            num_helpers=2,
            num_tokens=tokens,
            noise_psd=1e-20,
            payload_bits=1e3,
            deadline_s=1e-3,
            bandwidth_hz=[1e6, 1e6],
            gain=[1e-9, 1e-9],
            tx_power_limit_w=1.0,
            hosts=[[0], [1]],
            routed_experts=[[0, 1][:slots]] * tokens,
            gate_weights=[[0.6, 0.4][:slots]] * tokens,
            skip=[1.0, 1.0],
            cap=0.5,
            deviation=[[0.0, 0.9], [0.9, 0.0]],
        )
        policy(selection_problem(toy))
    _divide_band(
        BandwidthInstance(
            family="w",
            bandwidth_hz=1e6,
            tokens=[1.0, 2.0],
            compute_s=[1e-3, 1e-3],
            downlink_bits=1e3,
            uplink_bits=1e3,
            downlink_power_w=[1.0, 1.0],
            downlink_gain=[1e-9, 1e-9],
            uplink_power_w=[1.0, 1.0],
            uplink_gain=[1e-9, 1e-9],
            noise_psd=1e-20,
        )
    )


def _solve(instance: Instance, policy: Policy) -> dict[str, Any]:
    from siftmoe.tools.instance_file import BandwidthInstance

    if isinstance(instance, BandwidthInstance):
        return _divide_band(instance)
    return _select(instance, policy)


def _select(instance: SelectionInstance, policy: Policy) -> dict[str, Any]:
    from siftmoe.coordinator.selection.problem import Status
    from siftmoe.tools.instance_file import selection_problem

    problem = selection_problem(instance)
    plan = policy(problem)
    served = plan.status is not Status.INFEASIBLE
    bound = plan.lower_bound_j if served and math.isfinite(plan.lower_bound_j) else None
    return {
        "status": plan.status.value,
        "objective": plan.energy_j if served else None,
        "lower_bound": bound,
        "helpers": plan.helper_sets(),
        "bandwidth_hz": None,
        "solve_s": plan.solve_s,
    }


def _divide_band(instance: BandwidthInstance) -> dict[str, Any]:
    import numpy as np

    from siftmoe.coordinator.policies.wdmoe.bandwidth import allocate_bandwidth

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


def _show(answers: list[dict[str, Any]]) -> None:
    from siftmoe.tools.console import stdout_console, table

    header = ("file", "family", "status", "objective", "lower bound", "gap", "time")
    rows = [
        (
            answer["file"],
            answer["family"],
            answer["status"],
            _figure(answer["objective"], answer["family"]),
            _figure(answer["lower_bound"], answer["family"]),
            _gap(answer["objective"], answer["lower_bound"]),
            f"{answer['solve_s'] * 1e3:.3g} ms",
        )
        for answer in answers
    ]
    stdout_console().print(table(header, rows))


def _figure(value: float | None, family: str) -> str:
    return "-" if value is None else f"{value:.6g} {'s' if family == 'w' else 'J'}"


def _gap(objective: float | None, bound: float | None) -> str:
    if objective is None or bound is None:
        return "-"
    return f"{max(0.0, objective - bound) / objective:.1e}" if objective > 0.0 else "0"
