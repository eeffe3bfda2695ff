from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from siftmoe.coordinator.policies.token import tree as cover_tree
from siftmoe.coordinator.policies.token.relaxation import reduced_costs

Token = tuple[np.ndarray, np.ndarray, np.ndarray, float]


def random_token(seed: int, *, slots: int, helpers: int = 9) -> Token:
    rng = np.random.default_rng(seed)
    base = 0.3 + rng.random(slots)
    d = np.minimum(base[:, None], 1.5 * rng.random((slots, helpers)) * rng.random(helpers))
    cost = rng.exponential(size=helpers) ** -1.0
    cost[rng.integers(helpers)] = np.inf
    least = d[:, np.isfinite(cost)].min(axis=1).sum()
    return d, base, cost, float(least + rng.choice([1e-9, 0.05, 0.3]) * (base.sum() - least))


def feasible_sets(token: Token) -> list[list[int]]:
    d, base, cost, cap = token
    reach = np.flatnonzero(np.isfinite(cost)).tolist()
    sets = [list(s) for size in range(1, base.size + 1) for s in combinations(reach, size)]
    return [s for s in sets if np.minimum(base, d[:, s].min(axis=1)).sum() <= cap]


@pytest.mark.parametrize("slots", [3, 5])
@pytest.mark.parametrize("seed", range(25))
def test_both_searches_equal_brute_force(seed: int, slots: int) -> None:
    token = random_token(seed, slots=slots)
    d, base, cost, cap = token
    best = min(sum(cost[s]) for s in feasible_sets(token))
    chosen = np.full(slots, -1)
    value, done = cover_tree._search_best_ratio_first(d, base, cost, cap, 10**9, chosen)
    assert done
    assert value == pytest.approx(best, rel=1e-11)
    for upper in (np.inf, 1.2 * best):  # with and without reduced costs
        chosen = np.full(slots, -1)
        value = cover_tree._search_dearest_first(d, base, cost, cap, upper, chosen)
        assert value == pytest.approx(best, rel=1e-11)
        members = chosen[chosen >= 0].tolist()
        assert sum(cost[members]) == pytest.approx(best, rel=1e-11)
        assert sorted(members) in feasible_sets(token)


@pytest.mark.parametrize("seed", range(25))
def test_reduced_costs_bound_every_feasible_set(seed: int) -> None:
    token = random_token(seed, slots=4)
    d, base, cost, cap = token
    slack = np.zeros(cost.size)
    feasible = feasible_sets(token)
    best = min(sum(cost[s]) for s in feasible)
    bound = reduced_costs(d, base, cost, cap, best, slack)
    assert np.all(slack >= -1e-9 * best)
    for s in feasible:
        assert bound + slack[s].sum() <= sum(cost[s]) * (1 + 1e-9)


def test_a_token_that_needs_the_second_search() -> None:
    """Sixty helpers of near-equal cost: the first search gives up, both agree in the end."""
    rng = np.random.default_rng(5)
    base = np.ones(8)
    d = np.minimum(1.0, 0.15 + 1.2 * rng.random((8, 60)))
    cost = 1.0 + rng.random(60)
    few = cover_tree._FEW_NODES
    _, done = cover_tree._search_best_ratio_first(d, base, cost, 2.2, few, np.full(8, -1))
    assert not done
    value = cover_tree.branch_and_bound(d, base, cost, 2.2, np.full(8, -1))
    first, done = cover_tree._search_best_ratio_first(d, base, cost, 2.2, 10**9, np.full(8, -1))
    assert done
    assert value == pytest.approx(first, rel=1e-11)
