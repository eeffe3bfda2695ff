from __future__ import annotations

import numpy as np
import pytest

from siftmoe.coordinator.policies.batch.spending import balance, explore

TOKENS, SLOTS, HELPERS = 20, 2, 5


class Batch:
    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.routed = np.stack([rng.permutation(8)[:SLOTS] for _ in range(TOKENS)])
        self.weights = rng.dirichlet(np.ones(SLOTS), TOKENS)
        self.base = 0.5 + rng.random(8)
        self.served = np.minimum(self.base[:, None], 2.0 * rng.random((8, HELPERS)))
        self.energy = rng.random((HELPERS, 1)) * np.expm1(0.2 * np.arange(TOKENS + 2))
        self.energy[0, 4:] = np.inf
        ways = (np.arange(HELPERS)[:, None], np.ones((HELPERS, 1), dtype=np.int64))
        self.sets = np.full((TOKENS, SLOTS), -1)
        self.loads = np.zeros(HELPERS, dtype=np.int64)
        self.game = (self.routed, self.weights, self.served, self.base, self.energy, *ways)

    def deviation(self) -> float:
        total = 0.0
        for t in range(TOKENS):
            members = self.sets[t][self.sets[t] >= 0]
            assert len(set(members.tolist())) == members.size
            for w, e in zip(self.weights[t], self.routed[t], strict=True):
                total += w * min([self.base[e], *self.served[e, members]])
        return total

    def least(self) -> float:
        """Deviation if every token had every helper but the scarce one."""
        reach = np.minimum(self.base, self.served[:, 1:].min(axis=1))
        return float((self.weights * reach[self.routed]).sum())

    def total(self) -> float:
        counted = np.bincount(self.sets[self.sets >= 0], minlength=HELPERS)
        assert counted.tolist() == self.loads.tolist()
        return float(self.energy[np.arange(HELPERS), self.loads].sum())

    def balance(self, budget: float) -> float:
        nothing = np.full(TOKENS, -1)
        return balance(*self.game, budget, self.sets, self.loads, nothing)


@pytest.mark.parametrize("seed", range(10))
def test_repaired_spent_and_searched(seed: int) -> None:
    batch = Batch(seed)
    nobody, everybody = batch.deviation(), batch.least()
    strict, loose = (everybody + share * (nobody - everybody) for share in (0.6, 0.8))
    left = batch.balance(strict)  # from nobody served: repair
    assert left >= 0.0
    assert left == pytest.approx(strict - batch.deviation())
    dear = batch.total()
    assert batch.balance(loose) == pytest.approx(loose - batch.deviation(), abs=1e-12)
    cheap = batch.total()
    assert cheap < dear
    state = np.array([seed + 1], dtype=np.uint64)
    explore(*batch.game, loose, 300, state, batch.sets, batch.loads)
    assert batch.total() <= cheap
    assert batch.deviation() <= loose * (1 + 1e-12)


def test_a_budget_out_of_reach_is_reported() -> None:
    batch = Batch(1)
    assert batch.balance(0.0) < 0.0
