"""One token, or tokens at a constant energy each: the plan is the optimum."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from instances import as_problem, capacities, deviation_of, judge, make_instance, slot_options

from siftmoe.coordinator.policies.siftmoe import SiftMoE, plan_objective
from siftmoe.coordinator.selection.problem import Budget, BudgetKind, SelectionProblem, Status


def every_set(helpers: list[int], slots: int) -> list[list[int]]:
    return [list(s) for size in range(slots + 1) for s in combinations(helpers, size)]


@pytest.mark.parametrize("seed", range(150))
def test_one_token_equals_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    raw = make_instance(
        rng,
        tokens=1,
        experts=12,
        slots=int(rng.integers(1, 6)),
        helpers=int(rng.integers(1, 8)),
        share=float(rng.choice([0.0, 0.1, 0.25, 0.5, 0.8])),
        replicas=1,
        power_w=float(rng.choice([2e-5, 1e-3, 2.0])),
    )
    served, alone = slot_options(raw)
    reachable = np.flatnonzero(capacities(raw) > 0).tolist()
    problem = as_problem(raw)
    cost = problem.energy[:, 1]
    feasible = [
        sum(cost[s])
        for s in every_set(reachable, raw["K"])
        if deviation_of(served[0], alone[0], s) <= raw["eps"] + 1e-12 * (1 + raw["eps"])
    ]

    plan = SiftMoE().select(problem)

    if feasible:
        assert plan.status is Status.OPTIMAL
        assert judge(raw, plan.helper_sets()) == pytest.approx(min(feasible), rel=1e-9)
        assert plan.lower_bound_j == pytest.approx(min(feasible), rel=1e-9)
    else:
        assert plan.status is Status.INFEASIBLE
        everyone = deviation_of(served[0], alone[0], reachable)
        assert plan.deviation[0] == pytest.approx(everyone, rel=1e-9)
        cheapest = min(
            sum(cost[s])
            for s in every_set(reachable, raw["K"])
            if deviation_of(served[0], alone[0], s) <= everyone * (1 + 1e-12) + 1e-12
        )
        assert plan.energy_j == pytest.approx(cheapest, rel=1e-9)


def with_price(problem: SelectionProblem, price: float) -> SelectionProblem:
    return replace(problem, budget=Budget(kind=BudgetKind.PRICE, value=price))


@pytest.mark.parametrize("seed", range(100))
def test_price_equals_brute_force(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    raw = make_instance(
        rng,
        tokens=1,
        experts=16,
        slots=int(rng.choice([1, 2, 3, 4, 5])),
        helpers=int(rng.integers(1, 8)),
        power_w=float(rng.choice([1e-3, 2.0])),
    )
    served, alone = slot_options(raw)
    problem = as_problem(raw)
    cost = problem.energy[:, 1]
    price = float(np.median(cost)) * float(rng.choice([0.0, 0.5, 3.0, 20.0]))
    price = price if np.isfinite(price) else 1.0
    best = min(
        sum(cost[s]) + price * deviation_of(served[0], alone[0], s)
        for s in every_set(np.flatnonzero(np.isfinite(cost)).tolist(), raw["K"])
    )

    problem = with_price(problem, price)
    plan = SiftMoE().select(problem)

    assert plan.status is Status.OPTIMAL
    assert plan_objective(problem, plan) == pytest.approx(best, rel=1e-9)


def linear(problem: SelectionProblem) -> SelectionProblem:
    loads = np.arange(problem.num_tokens + 1)
    return replace(problem, energy=problem.energy[:, 1:2] * loads)


def test_a_batch_at_constant_energy_is_each_token_by_itself() -> None:
    raw = make_instance(np.random.default_rng(5), tokens=40, experts=16, slots=3, helpers=6)
    whole = SiftMoE().select(linear(as_problem(raw)))

    assert whole.status is Status.OPTIMAL
    alone = []
    for t in range(40):
        single = {**raw, "M": 1, "idx": raw["idx"][t : t + 1], "g": raw["g"][t : t + 1]}
        alone.append(SiftMoE().select(as_problem(single)).energy_j)
    assert whole.energy_j == pytest.approx(sum(alone), rel=1e-12)


def test_more_slots_than_the_subset_recursion_takes() -> None:
    """Twelve slots go the way of branching alone; a lower price never costs more."""
    raw = make_instance(np.random.default_rng(6), tokens=1, experts=20, slots=12, helpers=7)
    problem = as_problem(raw)
    served, alone = slot_options(raw)
    cost = problem.energy[:, 1]
    price = 10.0 * float(np.median(cost))
    best = min(
        sum(cost[s]) + price * deviation_of(served[0], alone[0], s)
        for s in every_set(list(range(7)), 7)
    )
    plan = SiftMoE().select(with_price(problem, price))
    assert plan_objective(with_price(problem, price), plan) == pytest.approx(best, rel=1e-9)
