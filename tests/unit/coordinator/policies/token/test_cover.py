from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from siftmoe.coordinator.policies.token.cover import caps_with_outage, cover_batch, cover_respond

Game = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def random_game(seed: int, *, slots: int, helpers: int, tokens: int = 6) -> Game:
    rng = np.random.default_rng(seed)
    experts = max(8, slots)
    routed = np.stack([rng.permutation(experts)[:slots] for _ in range(tokens)])
    base = 0.5 + rng.random(experts)
    served = np.minimum(base[:, None], 2.0 * rng.random((experts, helpers)))
    return routed, rng.dirichlet(np.ones(slots), tokens), served, base


def deviation(game: Game, t: int, members: list[int]) -> float:
    routed, weights, served, base = game
    least = [min([base[e], *served[e, members]]) for e in routed[t]]
    return float(weights[t] @ least)


def brute_force(game: Game, t: int, cost: np.ndarray, cap: float) -> float:
    slots, reach = game[0].shape[1], np.flatnonzero(np.isfinite(cost))
    sets = [list(s) for size in range(slots + 1) for s in combinations(reach, size)]
    return min((sum(cost[s]) for s in sets if deviation(game, t, s) <= cap), default=np.inf)


@pytest.mark.parametrize("slots", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("seed", range(12))
def test_batch_equals_brute_force(seed: int, slots: int) -> None:
    rng = np.random.default_rng(seed)
    game = random_game(seed, slots=slots, helpers=7)
    cost = rng.random(7) * rng.choice([1.0, 100.0], 7)
    cost[rng.integers(7)] = np.inf
    cap = 0.1 + 0.6 * rng.random(6)
    sets, total = cover_batch(*game, cost, cap)
    for t in range(6):
        members = [int(n) for n in sets[t] if n >= 0]
        assert total[t] == pytest.approx(brute_force(game, t, cost, cap[t]), rel=1e-9)
        if np.isfinite(total[t]):
            assert deviation(game, t, members) <= cap[t] + 1e-12
            assert sum(cost[members]) == pytest.approx(total[t], rel=1e-12)
        else:
            assert members == []


def test_near_equal_costs_are_still_told_apart() -> None:
    game = random_game(3, slots=5, helpers=9)
    cost = 1.0 + 1e-7 * np.random.default_rng(0).random(9)
    cap = np.full(6, 0.35)
    _, total = cover_batch(*game, cost, cap)
    for t in range(6):
        assert total[t] == pytest.approx(brute_force(game, t, cost, 0.35), rel=1e-11)


def test_caps_name_the_tokens_in_outage() -> None:
    game = random_game(4, slots=2, helpers=4)
    reachable = np.array([True, False, True, False])
    cap, outage = caps_with_outage(*game, reachable, 0.3)
    for t in range(6):
        least = deviation(game, t, [0, 2])
        assert outage[t] == (least > 0.3)
        assert cap[t] == pytest.approx(max(least, 0.3), abs=1e-11)
    cost = np.where(reachable, 1.0, np.inf)
    assert np.isfinite(cover_batch(*game, cost, cap)[1]).all()


def test_response_falls_until_nobody_can_improve() -> None:
    rng = np.random.default_rng(5)
    game = random_game(6, slots=3, helpers=5, tokens=20)
    energy = rng.random((5, 1)) * np.expm1(0.2 * np.arange(22))
    of, one = np.arange(5), np.ones((5, 1), dtype=np.int64)
    ways = (of[:, None], one, of, np.arange(6))
    marginal = np.diff(energy, axis=1)
    cap = np.full(20, 0.55)
    sets, loads = np.full((20, 3), -1), np.zeros(5, dtype=np.int64)
    before = np.inf
    for _ in range(50):
        moves = cover_respond(*game, energy, *ways, cap, np.arange(20), sets, loads)
        now = energy[np.arange(5), loads].sum()
        assert now <= before
        before = now
        assert loads.tolist() == np.bincount(sets[sets >= 0], minlength=5).tolist()
        if moves == 0:
            break
    assert moves == 0
    for t in range(20):
        assert deviation(game, t, [n for n in sets[t] if n >= 0]) <= 0.55 + 1e-12
        rest = loads - np.bincount(sets[t][sets[t] >= 0], minlength=5)
        cost = marginal[np.arange(5), rest]
        now = cost[sets[t][sets[t] >= 0]].sum()
        assert now == pytest.approx(brute_force(game, t, cost, 0.55), rel=1e-9)
