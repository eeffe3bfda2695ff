from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from siftmoe.coordinator.energy.tables import uplink_energy_table
from siftmoe.coordinator.policies.loads.hosting import MAX_SLOTS, keep_slots
from siftmoe.coordinator.policies.topk import TopK, TopOne
from siftmoe.coordinator.selection.problem import (
    LOCAL,
    NOBODY,
    Budget,
    BudgetKind,
    SelectionProblem,
    Status,
)


def make_problem(
    *, tokens: int, slots: int, experts: int, helpers: int, replicas: int = 1, seed: int = 0
) -> SelectionProblem:
    rng = np.random.default_rng(seed)
    hosts = np.zeros((helpers, experts), dtype=bool)
    for e in range(experts):
        hosts[rng.choice(helpers, replicas, replace=False), e] = True
    deviation = rng.uniform(0.5, 1.5, (experts, experts + 1))
    np.fill_diagonal(deviation, 0.0)
    return SelectionProblem(
        routed_experts=np.stack([rng.choice(experts, slots, replace=False) for _ in range(tokens)]),
        gate_weights=rng.dirichlet(np.ones(slots), tokens),
        hosts=hosts,
        local=np.zeros(experts, dtype=bool),
        deviation=deviation,
        scale=rng.uniform(0.5, 1.5, (experts, experts + 1)),
        energy=uplink_energy_table(
            max_load=tokens,
            payload_bits=65536,
            window_s=0.074,
            bandwidth_hz=np.full(helpers, 2e6),
            gain=1e-10 * rng.exponential(size=helpers),
            noise_psd=np.full(helpers, 4e-21),
            tx_power_limit_w=np.full(helpers, np.inf),
        ),
        budget=Budget(kind=BudgetKind.PER_TOKEN, value=0.0),
    )


def cheapest_by_enumeration(problem: SelectionProblem) -> float:
    """Over all ways to pick a host for every slot of every token."""
    options = [np.flatnonzero(problem.hosts[:, e]) for e in problem.routed_experts.reshape(-1)]
    best = np.inf
    for pick in itertools.product(*options):
        load = np.zeros(problem.num_helpers, dtype=int)
        for token in np.reshape(pick, problem.routed_experts.shape):
            load[np.unique(token)] += 1
        best = min(best, problem.energy[np.arange(problem.num_helpers), load].sum())
    return float(best)


def test_without_replicas_every_slot_is_at_its_only_host():
    problem = make_problem(tokens=40, slots=2, experts=6, helpers=3)
    plan = TopK().select(problem)
    np.testing.assert_array_equal(plan.helper, problem.hosts.argmax(axis=0)[problem.routed_experts])
    np.testing.assert_array_equal(plan.expert, problem.routed_experts)
    np.testing.assert_array_equal(plan.weight, problem.gate_weights)
    assert plan.status is Status.FEASIBLE
    assert not plan.deviation.any()
    loads = plan.loads(3)
    assert plan.energy_j == pytest.approx(problem.energy[np.arange(3), loads].sum())
    assert loads.sum() < 80  # some tokens have both experts on one helper and pay once


@pytest.mark.parametrize("seed", range(10))
def test_one_token_is_covered_at_least_cost(seed):
    problem = make_problem(tokens=1, slots=4, experts=8, helpers=6, replicas=3, seed=seed)
    assert TopK().select(problem).energy_j == pytest.approx(
        cheapest_by_enumeration(problem), rel=1e-12
    )


def test_several_tokens_are_near_the_least_cost():
    ratios = []
    for seed in range(20):
        problem = make_problem(tokens=3, slots=2, experts=5, helpers=4, replicas=2, seed=seed)
        ratios.append(TopK().select(problem).energy_j / cheapest_by_enumeration(problem))
    assert min(ratios) >= 1 - 1e-12
    assert np.mean(ratios) < 1.02
    assert np.median(ratios) == pytest.approx(1.0)


def test_local_experts_cost_nothing():
    problem = make_problem(tokens=8, slots=2, experts=4, helpers=4)
    problem = replace(problem, local=np.array([True, True, False, False]))
    plan = TopK().select(problem)
    np.testing.assert_array_equal(plan.helper == LOCAL, problem.routed_experts < 2)


def test_slots_that_nobody_can_serve_are_skipped_and_reported():
    problem = make_problem(tokens=6, slots=1, experts=2, helpers=2)
    energy = problem.energy.copy()
    energy[:, 3:] = np.inf
    problem = replace(
        problem,
        energy=energy,
        routed_experts=np.zeros((6, 1), dtype=np.int64),
        gate_weights=np.array([[0.1], [0.9], [0.4], [0.8], [0.2], [0.3]]),
    )
    plan = TopK().select(problem)
    assert plan.status is Status.INFEASIBLE
    np.testing.assert_array_equal(plan.helper[:, 0] >= 0, problem.gate_weights[:, 0] > 0.5)
    np.testing.assert_array_equal(plan.expert[plan.helper == NOBODY], 2)
    np.testing.assert_array_equal(plan.weight[plan.helper == NOBODY], 0.0)
    skipped = problem.gate_weights[:, 0] * problem.deviation[0, 2] * (plan.helper[:, 0] < 0)
    np.testing.assert_allclose(plan.deviation, skipped)
    assert np.isfinite(plan.energy_j)


def test_it_runs_without_known_deviations():
    problem = make_problem(tokens=6, slots=1, experts=2, helpers=2)
    unknown = np.full_like(problem.deviation, np.nan)
    np.fill_diagonal(unknown, 0.0)
    energy = problem.energy.copy()
    energy[:, 3:] = np.inf
    problem = replace(
        problem,
        deviation=unknown,
        energy=energy,
        routed_experts=np.zeros((6, 1), dtype=np.int64),
        gate_weights=np.array([[0.1], [0.9], [0.4], [0.8], [0.2], [0.3]]),
    )
    plan = TopK().select(problem)
    np.testing.assert_array_equal(plan.helper[:, 0] >= 0, problem.gate_weights[:, 0] > 0.5)
    np.testing.assert_array_equal(np.isnan(plan.deviation), plan.helper[:, 0] < 0)


def test_a_slot_of_no_weight_is_not_sent():
    problem = make_problem(tokens=4, slots=2, experts=4, helpers=4)
    weights = problem.gate_weights.copy()
    weights[2] = 0.0
    plan = TopK().select(replace(problem, gate_weights=weights))
    assert plan.status is Status.FEASIBLE
    np.testing.assert_array_equal(plan.helper[2], NOBODY)
    assert plan.loads(4).sum() == 6


def test_top_one_keeps_the_heaviest_slot_only():
    problem = make_problem(tokens=30, slots=3, experts=6, helpers=6)
    plan = TopOne().select(problem)
    heaviest = problem.gate_weights == problem.gate_weights.max(axis=1, keepdims=True)
    np.testing.assert_array_equal(plan.helper >= 0, heaviest)
    np.testing.assert_array_equal(plan.weight, np.where(heaviest, problem.gate_weights, 0.0))
    skip = problem.gate_weights * problem.deviation[problem.routed_experts, 6]
    np.testing.assert_allclose(plan.deviation, np.where(heaviest, 0.0, skip).sum(axis=1))


def test_top_one_rescaled_lets_the_kept_expert_stand_in():
    problem = make_problem(tokens=30, slots=2, experts=6, helpers=6)
    plain, rescaled = TopOne().select(problem), TopOne(rescale=True).select(problem)
    assert rescaled.energy_j == plain.energy_j
    assert np.all(rescaled.deviation <= plain.deviation)
    for t in range(30):
        kept, dropped = problem.routed_experts[t][np.argsort(-problem.gate_weights[t])]
        g1, g2 = np.sort(problem.gate_weights[t])[::-1]
        weight = g1 * problem.scale[kept, kept]
        if problem.deviation[dropped, kept] < problem.deviation[dropped, 6]:
            weight += g2 * problem.scale[dropped, kept]
        assert rescaled.weight[t].sum() == pytest.approx(weight)
        assert set(rescaled.expert[t][rescaled.weight[t] > 0]) == {kept}


def test_top_k_rescaled_uses_the_diagonal():
    problem = make_problem(tokens=5, slots=2, experts=4, helpers=4)
    diagonal = np.diagonal(problem.scale)[problem.routed_experts]
    np.testing.assert_array_equal(
        TopK(rescale=True).select(problem).weight, problem.gate_weights * diagonal
    )


def test_too_many_slots_are_refused():
    problem = make_problem(tokens=1, slots=MAX_SLOTS + 1, experts=20, helpers=3)
    with pytest.raises(ValueError, match="13"):
        keep_slots(problem, np.ones((1, MAX_SLOTS + 1), dtype=bool))
