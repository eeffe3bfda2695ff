from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from instances import as_problem, make_instance

from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.policies.siftmoe import SiftMoE, plan_objective
from siftmoe.coordinator.selection.problem import Budget, BudgetKind, SelectionProblem, Status


def small_problem(**changes: object) -> SelectionProblem:
    raw = make_instance(np.random.default_rng(1), tokens=12, experts=8, slots=2, helpers=4)
    return replace(as_problem(raw), **changes)  # type: ignore[arg-type]


def budget(kind: BudgetKind, value: float) -> Budget:
    return Budget(kind=kind, value=value)


@pytest.mark.parametrize("kind", list(BudgetKind))
def test_one_interface_for_every_budget(kind: BudgetKind) -> None:
    problem = small_problem(budget=budget(kind, 1e-7 if kind is BudgetKind.PRICE else 0.4))
    plan = make_policy("siftmoe", certificate=True)(problem)
    assert plan.status in (Status.OPTIMAL, Status.FEASIBLE)
    assert plan.lower_bound_j <= plan_objective(problem, plan)
    assert plan.solve_s > 0.0
    assert plan.loads(4).sum() == sum(len(s) for s in plan.helper_sets())


@pytest.mark.parametrize("kind", list(BudgetKind))
def test_without_a_certificate_there_is_no_bound(kind: BudgetKind) -> None:
    problem = small_problem(budget=budget(kind, 1e-7 if kind is BudgetKind.PRICE else 0.3))
    assert np.isnan(SiftMoE().select(problem).lower_bound_j)


@pytest.mark.parametrize("kind", list(BudgetKind))
def test_no_tokens(kind: BudgetKind) -> None:
    whole = small_problem()
    empty = replace(
        whole,
        routed_experts=whole.routed_experts[:0],
        gate_weights=whole.gate_weights[:0],
        budget=budget(kind, 0.1),
    )
    plan = SiftMoE().select(empty)
    assert plan.status is Status.OPTIMAL
    assert plan.energy_j == 0.0


@pytest.mark.parametrize("kind", list(BudgetKind))
def test_no_helpers(kind: BudgetKind) -> None:
    whole = small_problem()
    alone = replace(
        whole, hosts=whole.hosts[:0], energy=whole.energy[:0], budget=budget(kind, 0.01)
    )
    plan = SiftMoE().select(alone)
    assert plan.energy_j == 0.0
    assert plan.status is (Status.OPTIMAL if kind is BudgetKind.PRICE else Status.INFEASIBLE)


def test_squared_weights_and_token_factors_reach_the_deviation() -> None:
    """Deviation is g^p f F: the same problem in other words has the same plan."""
    problem = small_problem(weight_power=2, token_factor=np.full((12, 2), 0.5))
    plain = replace(
        problem,
        weight_power=1,
        token_factor=None,
        gate_weights=0.5 * problem.gate_weights**2,
    )
    one, other = SiftMoE().select(problem), SiftMoE().select(plain)
    assert one.helper_sets() == other.helper_sets()
    assert one.deviation == pytest.approx(other.deviation)


def test_a_dearer_deviation_is_avoided() -> None:
    deviations = []
    for value in (0.0, 1e-8, 1e-6, 1e-2):
        problem = small_problem(budget=budget(BudgetKind.PRICE, value))
        deviations.append(float(SiftMoE().select(problem).deviation.sum()))
    assert deviations == sorted(deviations, reverse=True)
    assert deviations[-1] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": -1}, "rounds must not be negative"),
        ({"tolerance": float("nan")}, "tolerance"),
        ({"closing_s": 1.0}, "set certificate too"),
    ],
)
def test_options_are_checked(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SiftMoE(**options)  # type: ignore[arg-type]


def test_deciding_loads_no_optimizer() -> None:
    """The programs of scipy are for proofs; a coordinator that decides must not load them."""
    code = (
        "import sys, siftmoe.coordinator.policies.siftmoe;"
        "sys.exit(any(m in ('scipy.optimize', 'torch') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
