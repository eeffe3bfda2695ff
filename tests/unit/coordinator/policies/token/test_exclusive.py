"""At most one way to a helper, against enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from siftmoe.coordinator.policies.token.exclusive import one_way_each
from siftmoe.coordinator.policies.token.price import price_batch

HELPER = np.array([0, 0, 0, 1, 1, 1])


def game(seed: int, slots: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    served = rng.uniform(0.0, 1.0, (4, HELPER.size))
    return (
        np.array([rng.permutation(4)[:slots] for _ in range(5)]),
        rng.uniform(0.5, 1.5, (5, slots)),
        np.minimum(served, 0.9),
        np.full(4, 0.9),
        rng.uniform(0.02, 0.3, HELPER.size),
    )


@pytest.mark.parametrize("slots", [2, 3])
@pytest.mark.parametrize("seed", range(10))
def test_each_token_has_the_best_of_what_is_allowed(seed: int, slots: int) -> None:
    routed, weights, served, base, cost = game(seed, slots)

    def solve(tokens: np.ndarray, prices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return price_batch(routed[tokens], weights[tokens], served, base, prices, 1.0)

    sets, value = one_way_each(solve, cost, tokens=5, helper=HELPER)
    for t in range(5):
        used = HELPER[sets[t][sets[t] >= 0]]
        assert len(set(used.tolist())) == used.size
        best = np.inf
        for pair in product((-1, 0, 1, 2), (-1, 3, 4, 5)):
            members = [way for way in pair if way >= 0]
            total = cost[members].sum()
            for i, expert in enumerate(routed[t]):
                total += weights[t, i] * min(base[expert], *served[expert, members], np.inf)
            best = min(best, total)
        assert value[t] == pytest.approx(best, rel=1e-12)


def test_without_the_limit_these_games_break_it() -> None:
    doubled = 0
    for seed in range(10):
        routed, weights, served, base, cost = game(seed, 3)
        sets, _ = price_batch(routed, weights, served, base, cost, 1.0)
        for row in sets:
            used = HELPER[row[row >= 0]]
            doubled += len(set(used.tolist())) < used.size
    assert doubled > 5
