from __future__ import annotations

import numpy as np
import pytest
from instances import minimal_sets

from siftmoe.coordinator.policies.certificates.columns import Columns, list_columns


def random_lists(
    seed: int, *, slots: int, tokens: int = 8, most: int = 10_000
) -> tuple[Columns | None, list[list[tuple[int, ...]]]]:
    """The list under test, and each token's minimal sets by enumeration."""
    rng = np.random.default_rng(seed)
    experts, helpers = 7, 6
    routed = np.stack([rng.permutation(experts)[:slots] for _ in range(tokens)])
    weights = rng.dirichlet(np.full(slots, 3.0), tokens)
    base = 0.8 + rng.random(experts)
    served = np.minimum(base[:, None], 1.5 * rng.random((experts, helpers)))
    reachable = np.array([True] * 5 + [False])
    d = weights[:, :, None] * np.where(reachable, served, base[:, None])[routed]
    alone = weights * base[routed]
    cap = np.maximum(0.5, d.min(axis=2).sum(axis=1)) + 1e-9
    columns = list_columns(
        routed=routed,
        weights=weights,
        served=served,
        base=base,
        reachable=reachable,
        cap=cap,
        most=most,
    )
    return columns, [minimal_sets(d[t], alone[t], cap[t]) for t in range(tokens)]


@pytest.mark.parametrize("slots", [2, 3, 4])
@pytest.mark.parametrize("seed", range(10))
def test_lists_are_all_minimal_sets(seed: int, slots: int) -> None:
    columns, expected = random_lists(seed, slots=slots)
    assert columns is not None
    for t, sets in enumerate(expected):
        g = columns.group[t]
        rows = columns.helper[columns.start[g] : columns.start[g + 1]]
        assert sorted(tuple(sorted(n for n in row if n < 6)) for row in rows) == sorted(sets)


def test_tokens_with_the_same_sets_share_a_group() -> None:
    routed = np.array([[0, 1], [2, 1], [1, 0], [0, 1]])
    served = np.array([[0.0, 0.9], [0.9, 0.0], [0.0, 0.9]])
    columns = list_columns(
        routed=routed,
        weights=np.full((4, 2), 0.5),
        served=served,
        base=np.ones(3),
        reachable=np.ones(2, dtype=bool),
        cap=np.full(4, 0.1),
    )
    assert columns is not None
    assert columns.size.tolist() == [4]
    assert columns.helper.tolist() in ([[0, 1]], [[1, 0]])


@pytest.mark.parametrize("slots", [2, 3])
def test_too_many_sets_are_not_listed(slots: int) -> None:
    assert random_lists(0, slots=slots, most=3)[0] is None
