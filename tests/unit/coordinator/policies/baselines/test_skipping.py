from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from siftmoe.coordinator.policies.baselines.des import Des
from siftmoe.coordinator.policies.baselines.skipping import GatePrice, SkipOnly
from siftmoe.coordinator.policies.siftmoe import SiftMoE
from siftmoe.coordinator.policies.topk import TopK
from siftmoe.coordinator.selection.problem import (
    NOBODY,
    Budget,
    BudgetKind,
    SelectionPlan,
    SelectionProblem,
    Status,
)

EXPERTS, HELPERS = 6, 4


def make_problem(
    *, tokens: int, slots: int, budget: Budget, seed: int, power: int = 1
) -> SelectionProblem:
    """Experts on one helper each, some helpers with two; energies convex in the load."""
    rng = np.random.default_rng(seed)
    hosts = np.zeros((HELPERS, EXPERTS), dtype=bool)
    hosts[rng.permutation(EXPERTS) % HELPERS, np.arange(EXPERTS)] = True
    deviation = rng.uniform(0.2, 1.0, (EXPERTS, EXPERTS + 1))
    np.fill_diagonal(deviation, 0.0)
    load = np.arange(tokens + 1.0)
    return SelectionProblem(
        routed_experts=np.stack([rng.choice(EXPERTS, slots, replace=False) for _ in range(tokens)]),
        gate_weights=rng.dirichlet(np.ones(slots), tokens),
        hosts=hosts,
        local=np.zeros(EXPERTS, dtype=bool),
        deviation=deviation,
        scale=np.ones((EXPERTS, EXPERTS + 1)),
        energy=rng.uniform(0.5, 4.0, (HELPERS, 1)) * np.expm1(0.3 * load),
        budget=budget,
        weight_power=power,
    )


def enumerate_kept(problem: SelectionProblem):
    """Every way to keep or skip the slots of every token: kept (T, K) and its energy."""
    host = problem.hosts.argmax(axis=0)[problem.routed_experts]
    for kept in itertools.product([False, True], repeat=problem.routed_experts.size):
        mask = np.reshape(kept, problem.routed_experts.shape)
        load = np.zeros(problem.num_helpers, dtype=int)
        for row, keep in zip(host, mask, strict=True):
            load[np.unique(row[keep])] += 1
        yield mask, problem.energy[np.arange(problem.num_helpers), load].sum()


def skip_deviation(problem: SelectionProblem, kept: np.ndarray) -> np.ndarray:
    lost = problem.slot_weights() * problem.deviation[problem.routed_experts, -1]
    return np.where(kept, 0.0, lost).sum(axis=1)


def assert_keeps_or_skips(problem: SelectionProblem, plan: SelectionPlan) -> None:
    skipped = plan.helper == NOBODY
    np.testing.assert_array_equal(plan.expert[~skipped], problem.routed_experts[~skipped])
    np.testing.assert_array_equal(plan.weight, np.where(skipped, 0.0, problem.gate_weights))
    np.testing.assert_allclose(plan.deviation, skip_deviation(problem, ~skipped), atol=1e-12)
    load = plan.loads(problem.num_helpers)
    assert plan.energy_j == pytest.approx(
        problem.energy[np.arange(problem.num_helpers), load].sum()
    )


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("slots", [2, 4])
def test_skip_only_is_the_cheapest_way_to_skip_within_the_budget(slots, seed):
    budget = Budget(kind=BudgetKind.PER_TOKEN, value=0.25)
    problem = make_problem(tokens=1, slots=slots, budget=budget, seed=seed)
    plan = SkipOnly().select(problem)
    assert_keeps_or_skips(problem, plan)
    assert plan.deviation[0] <= 0.25 + 1e-12
    best = min(e for kept, e in enumerate_kept(problem) if skip_deviation(problem, kept) <= 0.25)
    assert plan.energy_j == pytest.approx(best, rel=1e-12)
    assert np.isnan(plan.lower_bound_j)


@pytest.mark.parametrize("seed", range(5))
def test_skip_only_lies_between_siftmoe_and_top_k(seed):
    budget = Budget(kind=BudgetKind.PER_TOKEN, value=0.25)
    problem = make_problem(tokens=40, slots=2, budget=budget, seed=seed)
    effort = SiftMoE(rounds=20)
    skip = SkipOnly(solver=effort).select(problem)
    assert_keeps_or_skips(problem, skip)
    assert skip.energy_j < TopK().select(problem).energy_j
    assert effort.select(problem).energy_j <= skip.energy_j * 1.01


def test_skip_only_reports_what_it_cannot_meet():
    problem = make_problem(
        tokens=1, slots=2, budget=Budget(kind=BudgetKind.PER_TOKEN, value=0.0), seed=0
    )
    unreachable = np.full_like(problem.energy, np.inf)
    unreachable[:, 0] = 0.0
    plan = SkipOnly().select(replace(problem, energy=unreachable))
    assert plan.status is Status.INFEASIBLE
    assert np.all(plan.helper == NOBODY)
    assert plan.energy_j == 0.0


@pytest.mark.parametrize("seed", range(10))
def test_gate_price_minimises_energy_plus_priced_squares(seed):
    price = 2.0
    problem = make_problem(
        tokens=1, slots=3, budget=Budget(kind=BudgetKind.PRICE, value=price), seed=seed
    )
    plan = GatePrice().select(problem)
    assert_keeps_or_skips(problem, plan)

    def value(kept: np.ndarray, energy: float) -> float:
        return energy + price * (problem.gate_weights**2)[~kept].sum()

    best = min(value(kept, energy) for kept, energy in enumerate_kept(problem))
    assert value(plan.helper != NOBODY, plan.energy_j) == pytest.approx(best, rel=1e-12)


def test_gate_price_does_not_look_at_deviations():
    budget = Budget(kind=BudgetKind.PRICE, value=2.0)
    problem = make_problem(tokens=30, slots=2, budget=budget, seed=3)
    other = replace(
        problem,
        deviation=7.0 * problem.deviation,
        token_factor=np.random.default_rng(0).uniform(size=(30, 2)),
        weight_power=2,
    )
    first, second = GatePrice().select(problem), GatePrice().select(other)
    np.testing.assert_array_equal(first.helper, second.helper)
    assert 0 < (first.helper == NOBODY).sum() < 60
    assert not np.allclose(first.deviation, second.deviation)


def test_gate_price_needs_a_price():
    budget = Budget(kind=BudgetKind.PER_TOKEN, value=2.0)
    with pytest.raises(ValueError, match=r"gate-price needs .*'price', got 'per-token'"):
        GatePrice().select(make_problem(tokens=1, slots=2, budget=budget, seed=0))


def test_a_higher_price_drops_less():
    dropped = []
    for price in (0.0, 1.0, 3.0, 10.0, 1e6):
        budget = Budget(kind=BudgetKind.PRICE, value=price)
        problem = make_problem(tokens=12, slots=2, budget=budget, seed=1)
        dropped.append((GatePrice().select(problem).helper == NOBODY).sum())
    assert dropped[0] == 24
    assert dropped[-1] == 0
    assert dropped == sorted(dropped, reverse=True)


ANY = Budget(kind=BudgetKind.PER_TOKEN, value=0.0)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("slots", [1, 2, 4])
@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_des_is_the_cheapest_set_that_keeps_the_weight(threshold, slots, seed):
    problem = make_problem(tokens=1, slots=slots, budget=ANY, seed=seed)
    plan = Des(threshold=threshold).select(problem)
    assert_keeps_or_skips(problem, plan)
    best = min(
        energy
        for kept, energy in enumerate_kept(problem)
        if problem.gate_weights[kept].sum() >= threshold - 1e-12
    )
    assert plan.energy_j == pytest.approx(best, rel=1e-12)
    assert plan.weight.sum() >= threshold - 1e-12
    assert plan.status is Status.FEASIBLE


def test_des_on_several_tokens_keeps_every_threshold_at_almost_the_least_energy():
    ratios = []
    for seed in range(10):
        problem = make_problem(tokens=4, slots=2, budget=ANY, seed=seed)
        plan = Des(threshold=0.6, solver=SiftMoE(rounds=50)).select(problem)
        assert np.all(plan.weight.sum(axis=1) >= 0.6 - 1e-12)
        best = min(
            energy
            for kept, energy in enumerate_kept(problem)
            if np.all((problem.gate_weights * kept).sum(axis=1) >= 0.6 - 1e-12)
        )
        ratios.append(plan.energy_j / best)
    assert min(ratios) >= 1 - 1e-12
    assert np.mean(ratios) < 1.01


def test_des_thresholds_are_shares_of_a_tokens_weight():
    problem = make_problem(tokens=30, slots=3, budget=ANY, seed=4)
    factor = np.random.default_rng(4).uniform(0.2, 2.0, (30, 1))
    scaled = replace(problem, gate_weights=problem.gate_weights * factor)
    np.testing.assert_array_equal(Des().select(problem).helper, Des().select(scaled).helper)


def test_des_at_its_extremes():
    problem = make_problem(tokens=10, slots=3, budget=ANY, seed=5)
    np.testing.assert_array_equal(Des(threshold=0.0).select(problem).helper, NOBODY)
    everything = Des(threshold=1.0).select(problem)
    np.testing.assert_array_equal(everything.helper, TopK().select(problem).helper)
    with pytest.raises(ValueError, match=r"\[0, 1\], got 1.5"):
        Des(threshold=1.5)


def test_des_keeps_what_it_can_reach():
    problem = make_problem(tokens=1, slots=2, budget=ANY, seed=2)
    hosts = problem.hosts.copy()
    hosts[:, problem.routed_experts[0, 0]] = False
    plan = Des(threshold=1.0).select(replace(problem, hosts=hosts))
    assert plan.status is Status.INFEASIBLE
    assert plan.helper[0, 0] == NOBODY
    assert plan.helper[0, 1] >= 0
