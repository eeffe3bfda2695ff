from __future__ import annotations

import numpy as np
import pytest

from siftmoe.coordinator.policies.siftmoe import SiftMoE
from siftmoe.coordinator.selection.problem import Budget, BudgetKind, SelectionProblem, Status


def scarce(*, slots: int, room: int) -> SelectionProblem:
    """Six tokens of rising weight need helper 0, which has little room; helper 1 half helps."""
    weights = np.linspace(0.5, 1.0, 6)[:, None].repeat(slots, axis=1) / slots
    experts = slots + 1
    deviation = np.full((experts, experts + 1), 2.0)
    np.fill_diagonal(deviation, 0.0)
    deviation[:, slots], deviation[slots, slots] = 0.5, 0.0  # the last expert stands in for all
    hosts = np.zeros((2, experts), dtype=bool)
    hosts[0, :slots], hosts[1, slots] = True, True
    energy = np.array([1.0, 2.0])[:, None] * np.arange(7.0) ** 2
    energy[0, room + 1 :] = np.inf
    return SelectionProblem(
        routed_experts=np.tile(np.arange(slots), (6, 1)),
        gate_weights=weights,
        hosts=hosts,
        local=np.zeros(experts, dtype=bool),
        deviation=deviation,
        scale=np.ones((experts, experts + 1)),
        energy=energy,
        budget=Budget(kind=BudgetKind.PER_TOKEN, value=0.1),
    )


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_shortage_is_said_and_the_rest_gets_the_least_deviation(slots: int) -> None:
    problem = scarce(slots=slots, room=2)
    plan = SiftMoE().select(problem)
    assert plan.status is Status.INFEASIBLE
    assert np.isnan(plan.lower_bound_j)
    # the heaviest tokens keep the scarce helper, the others take the one that half helps
    assert plan.helper_sets() == [[1], [1], [1], [1], [0], [0]]
    weight = problem.gate_weights.sum(axis=1)
    assert plan.deviation == pytest.approx([*(0.5 * weight[:4]), 0.0, 0.0])


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_no_shortage_no_outage(slots: int) -> None:
    plan = SiftMoE().select(scarce(slots=slots, room=6))
    assert plan.status is not Status.INFEASIBLE
    assert plan.helper_sets() == [[0]] * 6


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_nothing_in_reach(slots: int) -> None:
    problem = scarce(slots=slots, room=0)
    problem.energy[1, 1:] = np.inf
    plan = SiftMoE().select(problem)
    assert plan.status is Status.INFEASIBLE
    assert plan.helper_sets() == [[]] * 6
    assert plan.energy_j == 0.0
