"""Selection of a broadcast: time of whole plans of 4,096 tokens, and the gap to the proved optimum.

Run: ``python -m benchmarks.selection.broadcast [--repeat N] [--json]``. E = 128 experts in groups
of alike ones, each on 1 to 3 of N = 64 helpers behind Rayleigh links, K = 8 slots, one band; from
the problem to the finished plan, tables and proof included. The smallest of several repetitions
counts, in processor time, since machines are shared; compiled code is loaded before.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

from siftmoe.coordinator.energy.medium import Medium
from siftmoe.coordinator.energy.one_band import OneBand
from siftmoe.coordinator.policies.siftmoe import SiftMoE, plan_objective
from siftmoe.coordinator.selection.problem import Budget, BudgetKind, SelectionProblem

TOKENS, EXPERTS, HELPERS, SLOTS = 4096, 128, 64, 8
BAND_HZ, NOISE_PSD, BITS, DEADLINE_S = 2e6, 4e-21, 65536.0, 0.0744
#: Share of the mean deviation of skipping everything that a capped token may have.
CAP = 0.45


def make_problem(kind: BudgetKind, rng: np.random.Generator) -> SelectionProblem:
    """Make a random batch."""
    kinds = rng.normal(size=(EXPERTS // 4, 16))
    outputs = 1.2 * kinds[rng.integers(len(kinds), size=EXPERTS)]
    outputs = outputs + 0.6 * rng.normal(size=(EXPERTS, 16))
    replaced = np.linalg.norm(outputs[:, None] - outputs[None], axis=2)
    skipped = np.linalg.norm(outputs, axis=1)
    hosts = np.zeros((HELPERS, EXPERTS), dtype=bool)
    for expert in range(EXPERTS):
        hosts[rng.choice(HELPERS, size=rng.integers(1, 4), replace=False), expert] = True
    logits = 1.5 * rng.normal(size=(TOKENS, EXPERTS))
    routed = np.argsort(-logits, axis=1)[:, :SLOTS]
    gates = np.exp(np.take_along_axis(logits, routed, axis=1))
    gates /= gates.sum(axis=1, keepdims=True)
    band = OneBand(
        bandwidth_hz=BAND_HZ,
        window_s=DEADLINE_S * TOKENS,
        noise_w=NOISE_PSD * BAND_HZ / (1e-9 * rng.exponential(size=HELPERS) + 1e-11),
        tx_power_limit_w=1e3,
        circuit_w=np.zeros(HELPERS),
    )
    medium = Medium(broadcast=True, up=band, down=None, bits={16: BITS}, reply_bits={16: BITS})
    stake = float((gates * skipped[routed]).sum(axis=1).mean())
    usual_j = float(np.median(band.noise_w)) * DEADLINE_S
    value = CAP * stake if kind is BudgetKind.PER_TOKEN else usual_j / stake
    return SelectionProblem(
        routed_experts=routed,
        gate_weights=gates,
        hosts=hosts,
        local=np.zeros(EXPERTS, dtype=bool),
        deviation=np.concatenate([replaced, skipped[:, None]], axis=1),
        scale=np.ones((EXPERTS, EXPERTS + 1)),
        energy=medium.linear_table(TOKENS),
        budget=Budget(kind=kind, value=value),
        medium=medium,
    )


def measure(kind: BudgetKind, *, repeat: int, seeds: int) -> dict[str, Any]:
    """Least time of each batch, and the worst gap."""
    times, gaps = [], []
    for seed in range(seeds):
        problem = make_problem(kind, np.random.default_rng(seed))
        plan = SiftMoE().select(problem)
        objective = plan_objective(problem, plan)
        gaps.append((objective - plan.lower_bound_j) / objective)
        each = []
        for _ in range(repeat):
            began = time.process_time()
            SiftMoE().select(problem)
            each.append(1e3 * (time.process_time() - began))
        times.append(min(each))
    return {
        "form": kind.value,
        "batches": seeds,
        "median_ms": round(float(np.median(times)), 1),
        "slowest_ms": round(max(times), 1),
        "worst_gap": max(gaps),
    }


def main() -> None:
    """Measure both forms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = [
        measure(kind, repeat=args.repeat, seeds=args.seeds)
        for kind in (BudgetKind.PER_TOKEN, BudgetKind.PRICE)
    ]
    if args.json:
        print(json.dumps(rows))
        return
    print("| form | batches | median, ms | slowest, ms | worst gap |\n|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['form']} | {row['batches']} | {row['median_ms']} | {row['slowest_ms']} | "
            f"{row['worst_gap']:.1e} |"
        )


if __name__ == "__main__":
    main()
