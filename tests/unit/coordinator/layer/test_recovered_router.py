"""Routing by biased logits, selected again after a fault: no expert serves a token twice."""

from __future__ import annotations

import numpy as np
import pytest

from siftmoe.coordinator.energy.pricing import Pricing
from siftmoe.coordinator.layer.recovery import joined, remainder
from siftmoe.coordinator.policies.baselines.router_bias import RouterBias
from siftmoe.coordinator.selection.problem import Budget, BudgetKind, SelectionProblem

LOGITS = np.array([[2.0, 1.9, 1.0, 0.5]])


def test_who_failed_is_replaced_by_an_expert_that_has_not_served() -> None:
    hosts = np.eye(4, dtype=bool)
    energy = np.tile(np.arange(3.0), (4, 1))
    problem = SelectionProblem(
        routed_experts=np.array([[0, 1]]),
        gate_weights=np.array([[0.6, 0.4]]),
        hosts=hosts,
        local=np.zeros(4, dtype=bool),
        deviation=np.ones((4, 5)) - np.eye(4, 5),
        scale=np.ones((4, 5)),
        energy=energy,
        budget=Budget(kind=BudgetKind.PRICE, value=1e3),
        router_logits=LOGITS,
    )
    plan = RouterBias().select(problem)
    assert plan.expert.tolist() == [[0, 1]]
    lacking = plan.helper == 1
    rest = remainder(problem, plan, lacking, closed=np.zeros_like(lacking))
    assert rest.router_logits is not None
    assert rest.router_logits.tolist() == [[-np.inf, 1.9, 1.0, 0.5]]
    assert np.array_equal(problem.router_logits, LOGITS)  # the whole problem's stay
    left = hosts.copy()
    left[1] = False
    second = RouterBias().select(
        rest.problem(problem, hosts=left, pricing=Pricing.of_one_width(energy[:, :2]))
    )
    both = joined(problem, plan, rest, second)
    assert both.expert.tolist() == [[0, 2]]
    assert both.weight[0, 1] == pytest.approx(0.4)
