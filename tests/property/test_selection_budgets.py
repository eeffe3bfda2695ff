"""Average and price budgets at convex energies, beside an integer program over all sets."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from instances import as_problem, deviation_of, make_instance, slot_options, tighten_power
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import lil_array

from siftmoe.coordinator.policies.siftmoe import SiftMoE, plan_objective
from siftmoe.coordinator.selection.problem import Budget, BudgetKind, SelectionProblem, Status

POLICY = SiftMoE(certificate=True, rounds=400)


def proven(raw: dict[str, Any], problem: SelectionProblem) -> float:
    """Optimum over every helper set of every token, by HiGHS; infinite if infeasible."""
    served, alone = slot_options(raw)
    sets = [
        (t, list(s))
        for t in range(raw["M"])
        for size in range(raw["K"] + 1)
        for s in combinations(range(raw["N"]), size)
    ]
    deviation = np.array([deviation_of(served[t], alone[t], s) for t, s in sets])
    energy = problem.energy
    steps = [
        (n, q) for n in range(raw["N"]) for q in range(raw["M"]) if energy[n, q + 1] < math.inf
    ]
    rows = lil_array((raw["M"] + raw["N"], len(sets) + len(steps)))
    for k, (t, s) in enumerate(sets):
        rows[t, k] = 1.0
        for n in s:
            rows[raw["M"] + n, k] = 1.0
    for k, (n, _) in enumerate(steps):
        rows[raw["M"] + n, len(sets) + k] = -1.0
    total = np.concatenate([np.ones(raw["M"]), np.zeros(raw["N"])])
    unit = float(np.median([energy[n, 1] for n, q in steps if q == 0])) if steps else 1.0
    marginal = np.array([energy[n, q + 1] - energy[n, q] for n, q in steps]) / unit
    value = problem.budget.value
    constraints = [LinearConstraint(rows.tocsr(), total, total)]
    if problem.budget.kind is BudgetKind.PRICE:
        cost = np.concatenate([value * deviation / unit, marginal])
    else:
        cost = np.concatenate([np.zeros(len(sets)), marginal])
        row = np.concatenate([deviation, np.zeros(len(steps))])[None, :]
        constraints.append(LinearConstraint(row, -np.inf, raw["M"] * value * (1 + 1e-12)))
    found = milp(
        cost,
        integrality=np.concatenate([np.ones(len(sets)), np.zeros(len(steps))]),
        bounds=Bounds(0, 1),
        constraints=constraints,
        options={"mip_rel_gap": 1e-9},
    )
    return float(found.fun * unit) if found.status == 0 else math.inf


def random_problem(seed: int, kind: BudgetKind) -> tuple[dict[str, Any], SelectionProblem]:
    rng = np.random.default_rng(seed)
    slots = 1 + seed % 3
    raw = make_instance(
        rng, tokens=8, experts=8, slots=slots, helpers=5, share=0.35, local=0.02, spectral=3.0
    )
    if seed % 4 == 3:
        raw = tighten_power(raw, rng, ease=1.0)
    problem = as_problem(raw)
    typical = float(np.median(problem.energy[:, 1][np.isfinite(problem.energy[:, 1])]))
    value = raw["eps"] if kind is BudgetKind.AVERAGE else typical * float(rng.choice([1, 6, 40]))
    return raw, replace(problem, budget=Budget(kind=kind, value=value))


@pytest.mark.parametrize("seed", range(30))
def test_price(seed: int) -> None:
    raw, problem = random_problem(seed, BudgetKind.PRICE)
    optimum = proven(raw, problem)
    plan = POLICY.select(problem)
    assert plan_objective(problem, plan) >= optimum * (1 - 1e-7)
    assert plan_objective(problem, plan) <= optimum * 1.001
    assert plan.lower_bound_j <= optimum * (1 + 1e-7)


@pytest.mark.parametrize("seed", range(30))
def test_average(seed: int) -> None:
    raw, problem = random_problem(seed, BudgetKind.AVERAGE)
    optimum = proven(raw, problem)
    plan = POLICY.select(problem)
    if math.isinf(optimum):
        assert plan.status is Status.INFEASIBLE
        return
    assert plan.deviation.sum() <= raw["M"] * raw["eps"] * (1 + 1e-9)
    assert plan.energy_j >= optimum * (1 - 1e-7)
    assert plan.lower_bound_j <= optimum * (1 + 1e-7)
    # a small batch leaves single moves little room; the certificate says by how much
    assert plan.energy_j <= optimum * 1.1


def test_a_large_batch_meets_its_average_and_is_certified() -> None:
    raw = make_instance(np.random.default_rng(8), tokens=600, experts=32, slots=2, helpers=16)
    budget = Budget(kind=BudgetKind.AVERAGE, value=0.7 * raw["eps"])
    plan = SiftMoE(certificate=True).select(replace(as_problem(raw), budget=budget))
    assert 0.999 * budget.value <= plan.deviation.mean() <= budget.value * (1 + 1e-9)
    assert plan.energy_j - plan.lower_bound_j <= 2e-3 * plan.energy_j


@pytest.mark.parametrize("constant", [False, True])
def test_cutting_planes_tighten_the_certificate(constant: bool) -> None:
    raw = make_instance(np.random.default_rng(3), tokens=30, experts=16, slots=2, helpers=8)
    problem = as_problem(raw)
    if constant:
        problem = replace(problem, energy=problem.energy[:, 1:2] * np.arange(31))
    problem = replace(problem, budget=Budget(kind=BudgetKind.AVERAGE, value=0.6 * raw["eps"]))
    rough = SiftMoE(certificate=True, steps=10, rounds=200).select(problem)
    tight = SiftMoE(certificate=True, steps=10, rounds=200, cuts=60).select(problem)
    assert tight.energy_j == rough.energy_j
    assert rough.lower_bound_j < tight.lower_bound_j <= tight.energy_j


def test_an_average_is_never_dearer_than_the_cap_of_the_same_value() -> None:
    raw = make_instance(np.random.default_rng(12), tokens=64, experts=16, slots=2, helpers=8)
    problem = as_problem(raw)
    average = replace(problem, budget=Budget(kind=BudgetKind.AVERAGE, value=raw["eps"]))
    assert SiftMoE().select(average).energy_j <= SiftMoE().select(problem).energy_j
