from __future__ import annotations

import numpy as np

from siftmoe.coordinator.policies.batch.search import cheapest_rows, settle, shake
from siftmoe.coordinator.policies.certificates.columns import Columns


def random_columns(seed: int, *, tokens: int, helpers: int) -> Columns:
    """Each token chooses among four random pairs."""
    rng = np.random.default_rng(seed)
    pairs = np.stack([rng.permutation(helpers)[:2] for _ in range(4 * tokens)])
    return Columns(
        start=np.arange(0, 4 * tokens + 1, 4),
        helper=pairs.astype(np.int32),
        group=np.arange(tokens),
        size=np.ones(tokens, dtype=np.int64),
    )


def energies(helpers: int, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    total = rng.random((helpers, 1)) * np.expm1(0.3 * np.arange(tokens + 2))
    marginal = np.vstack([np.diff(total, axis=1), np.zeros(tokens + 1)])
    return marginal, total[:, :-1]


def test_settled_and_then_searched() -> None:
    columns = random_columns(0, tokens=40, helpers=8)
    marginal, total = energies(8, 40)
    choice, loads = np.full(40, -1), np.zeros(9, dtype=np.int64)
    lists = (columns.start, columns.helper, columns.group)
    settle(*lists, marginal, np.arange(40), choice, loads)

    def energy() -> float:
        counted = np.bincount(columns.helper[choice].ravel(), minlength=8)
        assert counted.tolist() == loads[:-1].tolist()
        return float(total[np.arange(8), counted].sum())

    settled = energy()
    for t in range(40):  # nobody can improve alone
        for other in range(columns.start[t], columns.start[t + 1]):
            moved = loads[:-1].copy()
            moved[columns.helper[choice[t]]] -= 1
            moved[columns.helper[other]] += 1
            assert total[np.arange(8), moved].sum() >= settled * (1 - 1e-9)

    state = np.array([7], dtype=np.uint64)
    best = shake(*lists, marginal, total, choice, loads, 500, state)
    assert best <= settled
    assert best == energy()
    assert state[0] != 7
    again = shake(*lists, marginal, total, choice, loads, 500, state)
    assert again <= best


def test_cheapest_rows() -> None:
    columns = random_columns(3, tokens=10, helpers=5)
    cost = np.append(np.random.default_rng(0).random(5), 0.0)
    rows = cheapest_rows(columns.start, columns.helper, cost)
    worth = cost[columns.helper].sum(axis=1).reshape(10, 4)
    assert rows.tolist() == (worth.argmin(axis=1) + 4 * np.arange(10)).tolist()
