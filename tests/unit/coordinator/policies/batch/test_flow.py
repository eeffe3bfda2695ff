from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from siftmoe.coordinator.policies.batch.flow import (
    assign_groups,
    group_by_reach,
    hand_out,
    pack_sets,
)


@pytest.mark.parametrize("helpers", [1, 63, 64, 65, 130])
def test_sets_as_bits(helpers: int) -> None:
    member = np.random.default_rng(helpers).random((7, helpers)) < 0.3
    words = pack_sets(member)
    assert words.shape == (7, -(-helpers // 64))
    for g, n in product(range(7), range(helpers)):
        assert bool((int(words[g, n // 64]) >> (n % 64)) & 1) == member[g, n]


def test_groups_are_the_helpers_within_the_cap() -> None:
    rng = np.random.default_rng(3)
    served, expert = rng.random((6, 9)), rng.integers(0, 6, 200)
    weight = rng.random(200)
    reachable = rng.random(9) < 0.8
    group, allowed = group_by_reach(
        expert=expert, weight=weight, served=served, reachable=reachable, cap=0.2
    )
    expected = reachable & (weight[:, None] * served[expert] <= 0.2)
    assert np.array_equal(allowed[group], expected)


def best_by_hand(allowed: np.ndarray, energy: np.ndarray) -> tuple[int, float]:
    """Most tokens served, then least energy, over every assignment."""
    best = (0, 0.0)
    options = [[-1, *np.flatnonzero(row)] for row in allowed]
    for choice in product(*options):
        loads = np.bincount([n for n in choice if n >= 0], minlength=energy.shape[0])
        total = energy[np.arange(energy.shape[0]), loads].sum()
        if np.isfinite(total):
            best = min(best, (-int(loads.sum()), float(total)))
    return -best[0], best[1]


@pytest.mark.parametrize("spread", [1, 40])
@pytest.mark.parametrize("seed", range(25))
def test_most_tokens_at_least_energy(seed: int, spread: int) -> None:
    """With a spread the same helpers lie in several words."""
    rng = np.random.default_rng(seed)
    tokens, helpers = 6, 3
    allowed = rng.random((tokens, helpers)) < 0.5
    energy = rng.random((helpers, 1)) * np.expm1(0.7 * np.arange(tokens + 1))
    for n in range(helpers):
        energy[n, rng.integers(0, tokens + 1) + 1 :] = np.inf
    served, total = best_by_hand(allowed, energy)

    wide = np.zeros((tokens, helpers * spread), dtype=bool)
    wide[:, ::spread] = allowed
    marginal = np.full((helpers * spread, tokens + 1), np.inf)
    finite = np.isfinite(energy[:, 1:])
    steps = np.full((helpers, tokens), np.inf)
    np.subtract(energy[:, 1:], energy[:, :-1], out=steps, where=finite)
    marginal[::spread, :tokens] = steps
    group = np.arange(tokens)
    assigned, loads, placed = assign_groups(group, pack_sets(wide), marginal, np.arange(tokens))
    helper = hand_out(group, assigned, placed)

    assert placed.sum() == served
    assert energy[np.arange(helpers), loads[::spread]].sum() == pytest.approx(total)
    assert all(wide[t, helper[t]] for t in range(tokens) if placed[t])
    assert np.bincount(helper[placed], minlength=wide.shape[1]).tolist() == loads.tolist()
