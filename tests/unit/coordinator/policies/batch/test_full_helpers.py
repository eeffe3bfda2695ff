"""Budgets where helpers are full or out of reach: two cases from the field, and random ones."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from instances import as_problem, judge, make_instance, milp_optimum, tighten_power

from siftmoe.coordinator.policies.siftmoe import SiftMoE
from siftmoe.coordinator.selection.problem import Budget, BudgetKind, SelectionProblem, Status

CASES = Path(__file__).parent / "cases"


def case(name: str, kind: BudgetKind) -> SelectionProblem:
    arrays = np.load(CASES / f"{name}.npz")
    deviation = arrays["dev"]
    return SelectionProblem(
        routed_experts=arrays["routed"],
        gate_weights=arrays["gw"],
        hosts=arrays["hosts"],
        local=np.zeros(len(deviation), dtype=bool),
        deviation=deviation,
        scale=np.ones_like(deviation),
        energy=arrays["en"],
        budget=Budget(kind=kind, value=float(arrays["val"])),
    )


def test_tokens_change_places_at_a_full_helper() -> None:
    plan = SiftMoE().select(case("prefill_caps", BudgetKind.PER_TOKEN))
    assert plan.loads(3).tolist() == [15, 0, 15]
    assert plan.energy_j == pytest.approx(29.44232118, rel=1e-8)
    proof = SiftMoE(certificate=True, cuts=20, closing_s=10.0)
    assert proof.select(case("prefill_caps", BudgetKind.PER_TOKEN)).status is Status.OPTIMAL


@pytest.mark.parametrize("seed", range(24))
def test_where_power_limits_bind_the_default_is_within_a_thousandth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    raw = make_instance(
        rng,
        tokens=int(rng.integers(16, 40)),
        experts=8,
        slots=int(rng.integers(2, 4)),
        helpers=int(rng.integers(3, 6)),
        share=0.5,
        replicas=2,
        spectral=2.0,
    )
    raw = tighten_power(raw, rng, ease=0.6)
    optimum = milp_optimum(raw)
    plan = SiftMoE().select(as_problem(raw))
    if math.isinf(optimum):
        assert plan.status is Status.INFEASIBLE
    else:
        assert judge(raw, plan.helper_sets()) <= optimum * (1.0 + 1e-3)


def least_deviation(problem: SelectionProblem) -> float:
    """Of the only token, over all sets of helpers in reach."""
    (experts,), (gates,) = problem.routed_experts, problem.gate_weights
    reach = np.flatnonzero(np.isfinite(problem.energy[:, 1]))
    found = math.inf
    for size in range(len(reach) + 1):
        for members in combinations(reach, size):
            hosted = np.append(problem.hosts[list(members)].any(axis=0), True)  # the last: a skip
            found = min(found, float(gates @ problem.deviation[experts][:, hosted].min(axis=1)))
    return found


@pytest.mark.parametrize("certificate", [False, True])
def test_an_average_that_cannot_be_reached_is_infeasible_at_the_least_deviation(
    certificate: bool,
) -> None:
    problem = case("average_unreachable", BudgetKind.AVERAGE)
    plan = SiftMoE(certificate=certificate).select(problem)
    assert plan.status is Status.INFEASIBLE
    assert plan.deviation[0] == pytest.approx(least_deviation(problem), rel=1e-9)


@pytest.mark.parametrize("price", [1e15, 1e30, 1e60])
def test_a_price_beyond_the_precision_of_costs_serves_no_helper_twice(price: float) -> None:
    problem = case("average_unreachable", BudgetKind.PRICE)
    budget = Budget(kind=BudgetKind.PRICE, value=price)
    for seed in range(50):
        gates = np.random.default_rng(seed).random((1, 5))
        again = SelectionProblem(
            routed_experts=problem.routed_experts,
            gate_weights=gates,
            hosts=problem.hosts,
            local=problem.local,
            deviation=problem.deviation,
            scale=problem.scale,
            energy=problem.energy,
            budget=budget,
        )
        plan = SiftMoE().select(again)
        assert plan.loads(5).max() <= 1
        assert plan.deviation[0] == pytest.approx(least_deviation(again), rel=1e-9)
