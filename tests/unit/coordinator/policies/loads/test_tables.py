from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from siftmoe.coordinator.policies.loads.tables import (
    build_tables,
    deviation_at_stake,
    members_to_sets,
    plan_from_sets,
    slot_deviations,
)
from siftmoe.coordinator.selection.problem import (
    LOCAL,
    NOBODY,
    Budget,
    BudgetKind,
    SelectionProblem,
    Status,
)


def random_problem(seed: int, *, tokens: int = 5, slots: int = 2) -> SelectionProblem:
    rng = np.random.default_rng(seed)
    experts, helpers = 8, 4
    deviation = rng.random((experts, experts + 1))
    np.fill_diagonal(deviation, 0.0)
    return SelectionProblem(
        routed_experts=np.stack([rng.permutation(experts)[:slots] for _ in range(tokens)]),
        gate_weights=rng.random((tokens, slots)),
        hosts=rng.random((helpers, experts)) < 0.4,
        local=rng.random(experts) < 0.2,
        deviation=deviation,
        scale=0.5 + rng.random((experts, experts + 1)),
        energy=np.outer(1.0 + np.arange(helpers), np.arange(tokens + 1)).astype(float),
        budget=Budget(kind=BudgetKind.PER_TOKEN, value=0.1),
    )


@pytest.mark.parametrize("seed", range(20))
def test_tables_are_minima_over_what_a_helper_holds(seed: int) -> None:
    problem = random_problem(seed)
    tables = build_tables(problem)
    skip = problem.num_experts
    for i in range(problem.num_experts):
        options = [skip, *np.flatnonzero(problem.local)]
        assert tables.base[i] == problem.deviation[i, options].min()
        assert problem.deviation[i, tables.base_expert[i]] == tables.base[i]
        for n in range(problem.num_helpers):
            held = problem.deviation[i, :skip][problem.hosts[n]]
            least = held.min() if held.size else np.inf
            assert tables.remote[i, n] == least
            assert tables.served[i, n] == min(least, tables.base[i])
            if held.size:
                assert problem.hosts[n, tables.remote_expert[i, n]]
                assert problem.deviation[i, tables.remote_expert[i, n]] == least


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_does_what_its_sets_allow(seed: int) -> None:
    problem = random_problem(seed)
    tables = build_tables(problem)
    rng = np.random.default_rng(seed)
    member = rng.random((problem.num_tokens, problem.num_helpers)) < 0.4
    plan = plan_from_sets(problem, tables, members_to_sets(member), status=Status.FEASIBLE)
    served, alone = slot_deviations(problem, tables)
    for t in range(problem.num_tokens):
        options = np.concatenate([served[t][:, member[t]], alone[t][:, None]], axis=1)
        assert plan.deviation[t] == pytest.approx(options.min(axis=1).sum())
        for i, (n, j) in enumerate(zip(plan.helper[t], plan.expert[t], strict=True)):
            routed = problem.routed_experts[t, i]
            assert (n == NOBODY) == (j == problem.num_experts)
            assert n != LOCAL or problem.local[j]
            assert n < 0 or (member[t, n] and problem.hosts[n, j])
            weight = 0.0 if n == NOBODY else problem.gate_weights[t, i] * problem.scale[routed, j]
            assert plan.weight[t, i] == weight
    loads = plan.loads(problem.num_helpers)
    assert plan.energy_j == pytest.approx(float((1.0 + np.arange(4)) @ loads))


def two_experts(
    deviation: list[list[float]], *, hosts: list[list[int]], local: list[int]
) -> SelectionProblem:
    return SelectionProblem(
        routed_experts=np.array([[0]]),
        gate_weights=np.array([[0.5]]),
        hosts=np.array(hosts, dtype=bool),
        local=np.array(local, dtype=bool),
        deviation=np.array(deviation),
        scale=np.ones((2, 3)),
        energy=np.array([[0.0, 1.0]] * len(hosts)),
        budget=Budget(kind=BudgetKind.PER_TOKEN, value=1.0),
    )


@pytest.mark.parametrize(
    ("row", "local", "helper", "expert"),
    [
        ([0.0, 0.0, 0.0], [0, 0], 0, 0),  # all equal: keep, on a helper
        ([0.0, 0.0, 0.0], [1, 1], LOCAL, 0),  # keep, and the user's own expert first
        ([0.4, 0.2, 0.2], [0, 0], 0, 1),  # replacing goes before skipping
        ([0.4, 0.2, 0.1], [0, 0], NOBODY, 2),  # a helper that serves nothing is dropped
        ([0.4, 0.2, 0.3], [0, 1], LOCAL, 1),  # nor is one used beside an equal local expert
    ],
)
def test_ties(row: list[float], local: list[int], helper: int, expert: int) -> None:
    problem = two_experts([row, [1.0, 0.0, 1.0]], hosts=[[1, 1]], local=local)
    sets = np.array([[0]])
    plan = plan_from_sets(problem, build_tables(problem), sets, status=Status.FEASIBLE)
    assert (plan.helper[0, 0], plan.expert[0, 0]) == (helper, expert)
    assert plan.energy_j == (1.0 if helper == 0 else 0.0)


def test_without_helpers_or_tokens() -> None:
    problem = random_problem(1)
    none = replace(problem, hosts=problem.hosts[:0], energy=problem.energy[:0])
    sets = np.full((5, 2), -1)
    plan = plan_from_sets(none, build_tables(none), sets, status=Status.FEASIBLE)
    assert plan.deviation == pytest.approx(deviation_at_stake(none, build_tables(none)))
    empty = replace(
        problem, routed_experts=problem.routed_experts[:0], gate_weights=problem.gate_weights[:0]
    )
    plan = plan_from_sets(empty, build_tables(empty), sets[:0], status=Status.OPTIMAL)
    assert plan.helper.shape == (0, 2)


@pytest.mark.parametrize(
    ("value", "column", "message"),
    [(-0.1, 3, "negative"), (np.nan, 3, "NaN"), (np.inf, 8, "skipping")],
)
def test_bad_deviations_are_refused(value: float, column: int, message: str) -> None:
    problem = random_problem(0)
    problem.deviation[2, column] = value
    with pytest.raises(ValueError, match=message):
        build_tables(problem)


def test_members_to_sets() -> None:
    member = np.array([[0, 1, 1], [0, 0, 0], [1, 0, 0]], dtype=bool)
    assert members_to_sets(member).tolist() == [[1, 2], [-1, -1], [0, -1]]
