"""Speed and quality of helper selection beside HiGHS and OR-tools CP-SAT, in one run.

Run: ``python -m benchmarks.selection.speed [--quick] [--json]``; writes
``benchmarks/figures/selection_speed.csv`` and ``.png``.

Decoding: microseconds per token in a batch. Prefilling: milliseconds from the problem to the
finished plan, including tables, checks and certificate. The smallest of several repetitions counts;
compiled code is loaded before. The general solvers get the same problem in their own form:
facility location with a budget for a token; one column per minimal helper set and one per unit of
load for a batch.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ortools.sat.python import cp_model
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, lil_array

from siftmoe.coordinator.policies.loads.tables import build_tables, slot_deviations
from siftmoe.coordinator.policies.siftmoe import SiftMoE
from siftmoe.coordinator.selection.problem import Budget, BudgetKind, SelectionProblem, Status

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from instances import as_problem, make_instance, milp_optimum

FIGURES = Path(__file__).parents[1] / "figures"
#: CP-SAT computes in integers: costs and deviations are rounded to this many steps.
INTEGER_STEPS = 10**7
Row = dict[str, Any]


def fastest(work: Callable[[], Any], *, repeat: int) -> tuple[float, Any]:
    """Smallest time of some runs, s, and the last result."""
    best = np.inf
    for _ in range(repeat):
        began = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - began)
    return best, result


def batch(*, tokens: int, experts: int, slots: int, helpers: int, share: float = 0.45) -> Any:
    rng = np.random.default_rng([tokens, experts, slots, helpers])
    return make_instance(
        rng, tokens=tokens, experts=experts, slots=slots, helpers=helpers, share=share
    )


def at_constant_energy(problem: SelectionProblem) -> SelectionProblem:
    """Energies with a window for each token: e_n(q) = q e_n(1)."""
    loads = np.arange(problem.num_tokens + 1)
    return replace(problem, energy=problem.energy[:, 1:2] * loads)


def token_models(problem: SelectionProblem, count: int) -> list[Row]:
    """Costs, deviations and cap of the first tokens, for the general solvers."""
    served, alone = slot_deviations(problem, build_tables(problem))
    cost, cap = problem.energy[:, 1], problem.budget.value
    return [{"d": served[t], "base": alone[t], "cost": cost, "cap": cap} for t in range(count)]


def highs_token(m: Row) -> float:
    """min c y, sum_n x_in + u_i = 1, x_in <= y_n, sum d x + sum base u <= cap."""
    slots, helpers = m["d"].shape
    size = slots * helpers
    rows = lil_array((slots + size + 1, size + slots + helpers))
    for i in range(slots):
        rows[i, i * helpers : (i + 1) * helpers] = 1.0
        rows[i, size + i] = 1.0
        for n in range(helpers):
            rows[slots + i * helpers + n, i * helpers + n] = 1.0
            rows[slots + i * helpers + n, size + slots + n] = -1.0
    rows[-1, :size] = m["d"].ravel()
    rows[-1, size : size + slots] = m["base"]
    low = np.concatenate([np.ones(slots), np.full(size + 1, -np.inf)])
    high = np.concatenate([np.ones(slots), np.zeros(size), [m["cap"]]])
    kinds = np.concatenate([np.zeros(size + slots), np.ones(helpers)])
    unit = float(np.median(m["cost"]))
    found = milp(
        np.concatenate([np.zeros(size + slots), m["cost"] / unit]),
        integrality=kinds,
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(csr_array(rows), low, high),
        options={"mip_rel_gap": 0.0},
    )
    return float(found.fun * unit) if found.status == 0 else np.inf


def cpsat_token(m: Row) -> float:
    """The same with booleans and rounded numbers; one worker, as the others."""
    slots, helpers = m["d"].shape
    model = cp_model.CpModel()
    opened = [model.new_bool_var("") for _ in range(helpers)]
    step = INTEGER_STEPS / max(m["base"].sum(), m["cap"])
    terms = []
    for i in range(slots):
        choice = [model.new_bool_var("") for _ in range(helpers + 1)]
        model.add_exactly_one(choice)
        for n in range(helpers):
            model.add_implication(choice[n], opened[n])
            terms.append(int(np.floor(m["d"][i, n] * step)) * choice[n])
        terms.append(int(np.floor(m["base"][i] * step)) * choice[helpers])
    model.add(sum(terms) <= int(np.ceil(m["cap"] * step)))
    unit = INTEGER_STEPS / m["cost"].max()
    model.minimize(sum(round(c * unit) * y for c, y in zip(m["cost"], opened, strict=True)))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    if solver.solve(model) != cp_model.OPTIMAL:
        return np.inf
    return float(sum(c for c, y in zip(m["cost"], opened, strict=True) if solver.value(y)))


def decode_row(*, experts: int, slots: int, helpers: int, share: float, others: int) -> Row:
    raw = batch(tokens=2000, experts=experts, slots=slots, helpers=helpers, share=share)
    problem = at_constant_energy(as_problem(raw))
    policy = SiftMoE()
    policy.select(problem)
    seconds, plan = fastest(lambda: policy.select(problem), repeat=25)
    one = replace(
        problem,
        routed_experts=problem.routed_experts[:1],
        gate_weights=problem.gate_weights[:1],
    )
    single, _ = fastest(lambda: policy.select(one), repeat=50)
    row = {
        "kind": "decode",
        "E": experts,
        "K": slots,
        "N": helpers,
        "share": share,
        "us_per_token": seconds / 2000 * 1e6,
        "us_one_token": single * 1e6,
    }
    models = token_models(problem, others)
    for name, solver in (("highs", highs_token), ("cpsat", cpsat_token)):
        times, errors = [], []
        for t, m in enumerate(models):
            elapsed, value = fastest(lambda m=m, solver=solver: solver(m), repeat=1)
            mine = sum(problem.energy[n, 1] for n in plan.helper_sets()[t])
            times.append(elapsed)
            errors.append(abs(value - mine) / mine if mine else abs(value))
        row[f"{name}_us"] = float(np.median(times)) * 1e6
        row[f"{name}_max_difference"] = max(errors)
    return row


def prefill_row(
    *, tokens: int, experts: int, slots: int, helpers: int, compare: bool, kind: str = "prefill"
) -> Row:
    raw = batch(tokens=tokens, experts=experts, slots=slots, helpers=helpers)
    problem = as_problem(raw)
    policies = {"plan": SiftMoE(rounds=0), "certified": SiftMoE(certificate=True, tolerance=1e-4)}
    row: Row = {"kind": kind, "M": tokens, "E": experts, "K": slots, "N": helpers}
    for name, policy in policies.items():
        policy.select(problem)
        seconds, plan = fastest(lambda policy=policy: policy.select(problem), repeat=25)
        row[f"{name}_ms"] = seconds * 1e3
    row["status"] = plan.status.value
    row["gap"] = (
        np.nan
        if plan.status is Status.INFEASIBLE
        else max(0.0, plan.energy_j - plan.lower_bound_j) / plan.energy_j
    )
    if compare:
        seconds, optimum = fastest(lambda: milp_optimum(raw), repeat=1)
        row["highs_ms"] = seconds * 1e3
        row["above_optimum"] = plan.energy_j / optimum - 1.0
    return row


def average_row(*, tokens: int, experts: int, slots: int, helpers: int) -> Row:
    raw = batch(tokens=tokens, experts=experts, slots=slots, helpers=helpers)
    budget = Budget(kind=BudgetKind.AVERAGE, value=0.7 * raw["eps"])
    problem = replace(as_problem(raw), budget=budget)
    policy = SiftMoE(certificate=True, rounds=0)
    policy.select(problem)
    seconds, plan = fastest(lambda: policy.select(problem), repeat=3)
    gap = (plan.energy_j - plan.lower_bound_j) / plan.energy_j
    sizes = {"M": tokens, "E": experts, "K": slots, "N": helpers}
    return {"kind": "average", **sizes, "certified_ms": seconds * 1e3, "gap": gap}


def measure(*, quick: bool) -> list[Row]:
    others = 2 if quick else 12
    rows = [
        decode_row(experts=e, slots=k, helpers=n, share=share, others=others)
        for e, k, n in ((8, 2, 8), (64, 8, 16), (128, 8, 32), (128, 8, 64))
        for share in (0.45, 0.15)
    ]
    rows += [
        prefill_row(tokens=m, experts=e, slots=k, helpers=n, compare=m <= 512 and not quick)
        for k in (1, 2)
        for m, e, n in ((32, 16, 8), (128, 32, 16), (512, 32, 16), (4096, 64, 32), (4096, 128, 64))
    ]
    rows.append(prefill_row(tokens=1024, experts=128, slots=8, helpers=32, compare=False))
    rows += [
        average_row(tokens=m, experts=e, slots=2, helpers=n)
        for m, e, n in ((64, 16, 8), (1024, 32, 16), (4096, 128, 64))
    ]
    return rows + growth(quick=quick)


def growth(*, quick: bool) -> list[Row]:
    """One size at a time from a common middle: 1024 tokens, 64 experts, 32 helpers."""
    tokens = (256, 1024, 4096) if quick else (64, 256, 1024, 4096, 16384)
    sizes = [{"tokens": m, "experts": 64, "helpers": 32} for m in tokens]
    sizes += [{"tokens": 1024, "experts": e, "helpers": 32} for e in (8, 32, 128, 512)]
    sizes += [{"tokens": 1024, "experts": 64, "helpers": n} for n in (4, 8, 16, 64, 128)]
    return [
        prefill_row(**size, slots=k, compare=False, kind="growth") for size in sizes for k in (1, 2)
    ]


def write_csv(rows: list[Row], path: Path) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})


def draw(rows: list[Row], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    grown = [row for row in rows if row["kind"] == "growth"]
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), sharey=True, layout="constrained")
    middle = {"M": 1024, "E": 64, "N": 32}
    labels = {"M": "tokens", "E": "experts", "N": "helpers"}
    for axis, (key, label) in zip(axes, labels.items(), strict=True):
        fixed = {k: v for k, v in middle.items() if k != key}
        for slots, color in ((1, "tab:blue"), (2, "tab:orange")):
            points = sorted(
                (row[key], row["plan_ms"], row["certified_ms"])
                for row in grown
                if row["K"] == slots and all(row[k] == v for k, v in fixed.items())
            )
            size, plan, certified = zip(*points, strict=True)
            axis.loglog(size, plan, "o-", color=color, label=f"K={slots}, plan")
            if slots > 1:
                axis.loglog(size, certified, "s--", color=color, label=f"K={slots}, certified")
        axis.set_xlabel(label)
        axis.grid(visible=True, which="both", alpha=0.3)
    axes[0].set_ylabel("time of one selection, ms")
    axes[0].legend(fontsize=8)
    figure.suptitle("Cost growth around 1024 tokens, 64 experts, 32 helpers")
    figure.savefig(path, dpi=110)


def show(rows: list[Row]) -> None:
    for kind in dict.fromkeys(row["kind"] for row in rows):
        group = [row for row in rows if row["kind"] == kind]
        names = list(dict.fromkeys(name for row in group for name in row if name != "kind"))
        print(f"\n{kind}: " + ", ".join(names))
        for row in group:
            values = (row.get(name, "") for name in names)
            print("  " + "  ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer sizes, fewer comparisons")
    parser.add_argument("--json", action="store_true", help="rows as JSON on stdout")
    args = parser.parse_args()
    rows = measure(quick=args.quick)
    FIGURES.mkdir(exist_ok=True)
    write_csv(rows, FIGURES / "selection_speed.csv")
    draw(rows, FIGURES / "selection_speed.png")
    if args.json:
        print(json.dumps(rows))
    else:
        show(rows)


if __name__ == "__main__":
    main()
