from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from siftmoe.coordinator.policies.token import price


def value_of(d: np.ndarray, base: np.ndarray, cost: np.ndarray, chosen: np.ndarray) -> float:
    members = chosen[chosen >= 0]
    least = np.minimum(base, d[:, members].min(axis=1)) if members.size else base
    return float(cost[members].sum() + least.sum())


def branching(d: np.ndarray, base: np.ndarray, cost: np.ndarray, chosen: np.ndarray) -> float:
    return price._by_branching(d, base, cost, np.inf, chosen)


@pytest.mark.parametrize("slots", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("seed", range(15))
def test_three_exact_methods_agree(seed: int, slots: int) -> None:
    rng = np.random.default_rng(seed)
    helpers = 9
    base = 0.5 + rng.random(slots)
    d = np.minimum(base[:, None], 2.0 * rng.random((slots, helpers)))
    cost = rng.random(helpers) * rng.choice([0.02, 0.3, 1.0])
    cost[0] = np.inf
    methods: list[Callable[..., float]] = [branching, price._by_subsets]
    if slots <= 2:
        methods.append(price._few_slots)
    values = []
    for method in methods:
        chosen = np.full(slots, -1)
        values.append(method(d, base, cost, chosen))
        assert value_of(d, base, cost, chosen) == pytest.approx(values[-1], rel=1e-12)
    assert values == pytest.approx([values[0]] * len(values), rel=1e-11)


def test_a_search_that_grows_too_large_gives_up() -> None:
    rng = np.random.default_rng(1)
    base = np.ones(6)
    d = rng.random((6, 30))
    cost = 0.15 + 0.01 * rng.random(30)
    assert np.isnan(price._by_branching(d, base, cost, 3.0, np.full(6, -1)))


def test_response_lowers_energy_plus_priced_deviation() -> None:
    rng = np.random.default_rng(2)
    tokens, slots, helpers = 25, 3, 5
    routed = np.stack([rng.permutation(8)[:slots] for _ in range(tokens)])
    weights = rng.dirichlet(np.ones(slots), tokens)
    base = 0.5 + rng.random(8)
    served = np.minimum(base[:, None], 2.0 * rng.random((8, helpers)))
    energy = rng.random((helpers, 1)) * np.expm1(0.2 * np.arange(tokens + 2))
    energy[0, 3:] = np.inf
    of, one = np.arange(helpers), np.ones((helpers, 1), dtype=np.int64)
    ways = (of[:, None], one, of, np.arange(helpers + 1))
    sets, loads = np.full((tokens, slots), -1), np.zeros(helpers, dtype=np.int64)

    def objective() -> float:
        total = energy[np.arange(helpers), loads].sum()
        for t in range(tokens):
            for w, e in zip(weights[t], routed[t], strict=True):
                total += 3.0 * w * min([base[e], *served[e, sets[t][sets[t] >= 0]]])
        return float(total)

    before = objective()
    for _ in range(50):
        moves = price.price_respond(
            routed, weights, served, base, energy, *ways, 3.0, np.arange(tokens), sets, loads
        )
        assert objective() < before if moves else objective() == pytest.approx(before)
        before = objective()
        if moves == 0:
            break
    assert moves == 0
    assert 0 < loads[0] <= 2
