"""A selection after a fault keeps the whole layer's budget."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from siftmoe.coordinator.energy.pricing import Pricing
from siftmoe.coordinator.layer.recovery import (
    given_up,
    joined,
    remainder,
    slot_deviation,
    unserved,
)
from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.selection.layer_problem import leave_empty
from siftmoe.coordinator.selection.problem import (
    NOBODY,
    Budget,
    BudgetKind,
    SelectionPlan,
    SelectionProblem,
    Status,
)

E, N, K = 5, 4, 2


@st.composite
def problems(draw: st.DrawFn) -> SelectionProblem:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    tokens = draw(st.integers(1, 6))
    deviation = rng.random((E, E + 1))
    deviation[np.diag_indices(E)] = 0.0
    cost = rng.random(N)
    gates = rng.random((tokens, K)) + 0.05
    kind = draw(st.sampled_from(list(BudgetKind)))
    return SelectionProblem(
        routed_experts=np.stack([rng.permutation(E)[:K] for _ in range(tokens)]),
        gate_weights=gates / gates.sum(axis=1, keepdims=True),
        hosts=rng.random((N, E)) < 0.6,
        local=np.zeros(E, dtype=bool),
        deviation=deviation,
        scale=np.ones_like(deviation),
        energy=cost[:, None] * np.arange(tokens + 1) ** 1.2,
        budget=Budget(kind=kind, value=draw(st.floats(0.01, 0.8))),
        weight_power=draw(st.sampled_from([1, 2])),
    )


def keeps_budget(problem: SelectionProblem, plan: SelectionPlan) -> bool:
    most = problem.budget.value * (1.0 + 1e-6) + 1e-9
    if problem.budget.kind is BudgetKind.PER_TOKEN:
        return bool((plan.deviation <= most).all())
    return problem.budget.kind is BudgetKind.PRICE or float(plan.deviation.mean()) <= most


@settings(deadline=None)
@given(problem=problems(), policy=st.sampled_from(["siftmoe", "skip-only", "topk"]))
def test_the_two_plans_together_keep_the_layers_budget(
    problem: SelectionProblem, policy: str
) -> None:
    select = make_policy(policy)
    plan = select(problem)
    failed = {int(plan.loads(N).argmax())}
    lacking = unserved(plan, failed)
    if not lacking.any():
        return
    closed = np.zeros_like(lacking)
    rest = remainder(problem, plan, lacking, closed=closed)
    hosts = problem.hosts.copy()
    hosts[list(failed)] = False
    left = rest.problem(problem, hosts=hosts, pricing=Pricing.of_one_width(problem.energy))
    second = leave_empty(select(left), ~rest.open, num_experts=E)
    whole = joined(problem, plan, rest, second)
    assert not unserved(whole, failed).any()
    stay = ~lacking & (plan.helper != NOBODY)
    for name in ("helper", "expert", "weight"):
        np.testing.assert_array_equal(getattr(whole, name)[stay], getattr(plan, name)[stay])
    served = whole.helper != NOBODY
    assert hosts[whole.helper[served & ~stay], whole.expert[served & ~stay]].all()
    np.testing.assert_allclose(
        whole.deviation, slot_deviation(problem, whole).sum(axis=1), rtol=1e-6, atol=1e-9
    )
    if whole.status is not Status.INFEASIBLE and policy != "topk":
        assert keeps_budget(problem, whole)
    assert whole.energy_j == plan.energy_j + second.energy_j
    assert np.isnan(whole.lower_bound_j)


@settings(deadline=None)
@given(problem=problems())
def test_what_is_given_up_deviates_as_a_skip_does(problem: SelectionProblem) -> None:
    plan = make_policy("topk")(problem)
    lacking = unserved(plan, {0, 1})
    short = given_up(problem, plan, lacking)
    assert short.status is Status.INFEASIBLE
    assert (short.helper[lacking] == NOBODY).all()
    assert (short.weight[lacking] == 0.0).all()
    added = np.where(
        lacking, problem.slot_weights() * problem.deviation[problem.routed_experts, E], 0.0
    )
    np.testing.assert_allclose(short.deviation, plan.deviation + added.sum(axis=1), atol=1e-12)


@settings(deadline=None)
@given(problem=problems())
def test_without_a_profile_what_is_kept_in_the_end_deviates_by_nothing(
    problem: SelectionProblem,
) -> None:
    """Deviations of all but keeping are unknown; Top-K runs on such tables."""
    unknown = np.full((E, E + 1), np.nan)
    unknown[np.diag_indices(E)] = 0.0
    budget = Budget(kind=BudgetKind.PER_TOKEN, value=0.0)
    hosts = np.ones((N, E), dtype=bool)
    problem = replace(problem, deviation=unknown, hosts=hosts, budget=budget)
    plan = make_policy("topk")(problem)
    lacking = unserved(plan, {int(plan.helper[0, 0])})
    plan = given_up(problem, plan, lacking)
    assert np.isnan(plan.deviation[lacking.any(axis=1)]).all()
    rest = remainder(problem, plan, lacking, closed=np.zeros_like(lacking))
    np.testing.assert_array_equal(rest.token_factor, 1.0)
    left = rest.problem(problem, hosts=hosts, pricing=Pricing.of_one_width(problem.energy))
    second = leave_empty(make_policy("topk")(left), ~rest.open, num_experts=E)
    np.testing.assert_array_equal(joined(problem, plan, rest, second).deviation, 0.0)
