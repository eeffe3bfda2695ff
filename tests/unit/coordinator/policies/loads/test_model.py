from __future__ import annotations

import numpy as np
import pytest

from siftmoe.coordinator.policies.loads.model import LoadModel, model_loads
from siftmoe.coordinator.selection.problem import Budget, BudgetKind, SelectionProblem


def problem_with(energy: list[list[float]], tokens: int) -> SelectionProblem:
    return SelectionProblem(
        routed_experts=np.zeros((tokens, 1), dtype=np.int64),
        gate_weights=np.ones((tokens, 1)),
        hosts=np.ones((len(energy), 1), dtype=bool),
        local=np.zeros(1, dtype=bool),
        deviation=np.array([[0.0, 1.0]]),
        scale=np.ones((1, 2)),
        energy=np.array(energy, dtype=np.float64),
        budget=Budget(kind=BudgetKind.PER_TOKEN, value=0.1),
    )


def model_of(energy: list[list[float]], tokens: int) -> LoadModel:
    return model_loads(problem_with(energy, tokens))


def test_capacity_and_marginals() -> None:
    inf = np.inf
    model = model_of([[0, 1, 3, 6], [0, 2, inf, inf], [0, inf, inf, inf]], 3)
    assert model.capacity.tolist() == [3, 1, 0]
    assert model.marginal.tolist() == [[1, 2, 3, inf], [2, inf, inf, inf], [inf] * 4]
    assert model.reachable.tolist() == [True, True, False]
    assert model.first.tolist() == [1, 2, inf]
    assert model.total(np.array([2, 1, 0])) == 5.0


@pytest.mark.parametrize(
    ("energy", "tokens", "independent"),
    [
        ([[0, 1, 2, 3], [0, 5, 10, 15]], 3, True),
        ([[0, 1, 2, 3], [0, np.inf, np.inf, np.inf]], 3, True),  # out of reach altogether
        ([[0, 1, 2, np.inf]], 3, False),  # the capacity may bind
        ([[0, 1, 2, 3.1]], 3, False),
        ([[0, 1, 7]], 1, True),  # a single token
    ],
)
def test_independence(energy: list[list[float]], tokens: int, independent: bool) -> None:
    assert model_of(energy, tokens).independent is independent


@pytest.mark.parametrize(
    "bad", [[1, 2, 3], [0, 2, 3], [0, -1, -1], [0, np.inf, 3], [0, np.nan, 3], [0, 3, 2]]
)
def test_tables_that_no_algorithm_here_may_use(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="helper 1 "):
        model_of([[0, 1, 2], bad], 2)


def test_overflow_costs_more_than_any_plan() -> None:
    model = model_of([[0, 1, np.inf, np.inf], [0, 10, 30, 60]], 3)
    marginal, total = model.with_overflow()
    assert marginal[0, 1] > model.total(np.array([1, 3]))
    assert np.all(np.diff(marginal[0]) >= 0)
    assert np.allclose(np.cumsum(marginal[:-1, :-1], axis=1), total[:, 1:])
    assert np.all(marginal[-1] == 0.0)
