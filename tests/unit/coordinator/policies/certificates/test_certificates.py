"""dual, cutting and closing on one small game whose optimum is known by enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from siftmoe.coordinator.policies.certificates.closing import close_gap, least_overflow
from siftmoe.coordinator.policies.certificates.columns import Columns
from siftmoe.coordinator.policies.certificates.cutting import tighten
from siftmoe.coordinator.policies.certificates.dual import Certificate, ascend, helper_side
from siftmoe.coordinator.policies.loads.model import LoadModel

HELPERS, TOKENS, EACH = 4, 6, 3


class Game:
    """Six tokens, each with three sets of one or two of four helpers."""

    def __init__(self, seed: int, *, capacity: int = TOKENS) -> None:
        rng = np.random.default_rng(seed)
        sets = np.stack([rng.permutation(HELPERS + 1)[:2] for _ in range(TOKENS * EACH)])
        self.columns = Columns(
            start=np.arange(0, TOKENS * EACH + 1, EACH),
            helper=sets.astype(np.int32),
            group=np.arange(TOKENS),
            size=np.ones(TOKENS, dtype=np.int64),
        )
        energy = rng.random((HELPERS, 1)) * np.expm1(0.4 * np.arange(TOKENS + 1))
        energy[:, capacity + 1 :] = np.inf
        marginal = np.full_like(energy, np.inf)
        finite = np.isfinite(energy[:, 1:])
        np.subtract(energy[:, 1:], energy[:, :-1], out=marginal[:, :-1], where=finite)
        self.model = LoadModel(
            energy=energy,
            capacity=np.full(HELPERS, capacity),
            marginal=marginal,
            independent=False,
            resource=np.arange(HELPERS),
            units=np.ones(HELPERS, dtype=np.int64),
        )
        self.plans = [self.energy(np.array(c)) for c in product(range(EACH), repeat=TOKENS)]
        self.optimum = min(self.plans)

    def energy(self, pick: np.ndarray) -> float:
        return self.of_rows(pick + EACH * np.arange(TOKENS))

    def of_rows(self, rows: np.ndarray) -> float:
        loads = np.bincount(self.columns.helper[rows].ravel(), minlength=HELPERS + 1)[:-1]
        return self.model.total(loads)

    def tokens(self, prices: np.ndarray) -> tuple[float, np.ndarray]:
        worth = np.append(prices, 0.0)[self.columns.helper].sum(axis=1).reshape(TOKENS, EACH)
        rows = worth.argmin(axis=1) + EACH * np.arange(TOKENS)
        demand = np.bincount(self.columns.helper[rows].ravel(), minlength=HELPERS + 1)[:-1]
        return float(worth.min(axis=1).sum()), demand.astype(float)

    def bound(self, prices: np.ndarray) -> float:
        value, demand = self.tokens(prices)
        return value + helper_side(self.model, prices, demand)[0]


@pytest.mark.parametrize("capacity", [2, 3, TOKENS])
@pytest.mark.parametrize("seed", range(10))
def test_every_price_gives_a_bound_and_the_closing_the_optimum(seed: int, capacity: int) -> None:
    game = Game(seed, capacity=capacity)
    rows, overflow = least_overflow(game.columns, game.model, time_limit_s=5.0)
    assert rows is not None
    if np.isinf(game.optimum):
        assert overflow > 0.5
        return
    assert np.isfinite(game.of_rows(rows))

    rng = np.random.default_rng(seed)
    for _ in range(20):
        prices = rng.random(HELPERS) * rng.choice([0.1, 1.0, 10.0])
        assert game.bound(prices) <= game.optimum * (1 + 1e-12) + 1e-12

    upper = max(e for e in game.plans if np.isfinite(e))
    scale = np.full(HELPERS, upper / TOKENS)
    ascended = ascend(game.tokens, game.model, scale, scale=scale, upper=upper, steps=60)
    assert ascended.bound == pytest.approx(game.bound(ascended.prices), rel=1e-12)
    assert ascended.bound >= game.bound(scale)
    cut = tighten(game.tokens, game.model, ascended, scale=scale, upper=upper, rounds=40)
    assert ascended.bound <= cut.bound <= game.optimum * (1 + 1e-12) + 1e-12

    closing = close_gap(game.columns, game.model, cut, upper=upper, time_limit_s=5.0)
    assert closing.bound == pytest.approx(game.optimum, rel=1e-8)
    if cut.bound >= upper:  # all plans cost the same, and rounding decides
        assert upper == pytest.approx(game.optimum, rel=1e-12)
        return
    assert closing.choice is not None
    assert game.of_rows(closing.choice) == pytest.approx(game.optimum, rel=1e-8)


def test_cutting_planes_reach_what_steps_approach() -> None:
    """On a game without integrality gap both meet at the optimum, the planes exactly."""
    game = Game(0)
    scale = np.full(HELPERS, game.optimum / TOKENS)
    start = Certificate(bound=game.bound(scale), prices=scale)
    cut = tighten(game.tokens, game.model, start, scale=scale, upper=game.optimum, rounds=200)
    stepped = ascend(game.tokens, game.model, scale, scale=scale, upper=game.optimum, steps=2000)
    assert cut.bound >= stepped.bound * (1 - 1e-6)


def test_a_plan_that_meets_the_bound_needs_no_program() -> None:
    game = Game(1)
    certificate = Certificate(bound=5.0, prices=np.zeros(HELPERS))
    closing = close_gap(game.columns, game.model, certificate, upper=5.0, time_limit_s=1.0)
    assert closing.choice is None
    assert closing.bound == 5.0


def test_gap() -> None:
    certificate = Certificate(bound=0.9, prices=np.zeros(1))
    assert certificate.gap(1.0) == pytest.approx(0.1)
    assert certificate.gap(0.8) == 0.0
    assert certificate.gap(0.0) == 0.0
