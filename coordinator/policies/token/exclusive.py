"""Tokens that may go at most one way to a helper, solved exactly.

Where a way's energy is a sum of one for each direction, two ways to one helper never help a token.
Where both directions share a deadline they might: each would have the whole deadline for itself,
which a helper does not have twice. The sets are then found without that constraint, which is exact
where it holds by itself; a token that breaks it is solved again for each of the helper's ways with
the others forbidden, and the best of these is optimal. Our derivation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Best sets (n, K) and their values (n,) of some tokens at costs of ways (H,).
Solver = Callable[["IntArray", "FloatArray"], "tuple[IntArray, FloatArray]"]


def one_way_each(
    solve: Solver, cost: FloatArray, *, tokens: int, helper: IntArray | None
) -> tuple[IntArray, FloatArray]:
    """Best sets (T, K) and values (T,) with at most one way to each helper.

    Parameters
    ----------
    solve : callable
        Solves some tokens at costs of ways; infinite for a way that is forbidden.
    cost : (H,) float64
    tokens : int
        T.
    helper : (H,) int64 or None
        Of each way; None where the constraint holds by itself.
    """
    sets, value = solve(np.arange(tokens), cost)
    if helper is None:
        return sets, value
    for t in np.flatnonzero([_doubled(row, helper) >= 0 for row in sets]):
        sets[t], value[t] = _branched(solve, cost, int(t), sets[t], helper)
    return sets, value


def _doubled(ways: IntArray, helper: IntArray) -> int:
    """Return a helper to which a token goes twice, or -1."""
    used, count = np.unique(helper[ways[ways >= 0]], return_counts=True)
    return int(used[count.argmax()]) if count.size and count.max() > 1 else -1


def _branched(
    solve: Solver, cost: FloatArray, t: int, ways: IntArray, helper: IntArray
) -> tuple[IntArray, float]:
    """Best set of a token and its value, from a set that may break the constraint."""
    n = _doubled(ways, helper)
    best, least = np.full_like(ways, -1), np.inf
    for kept in np.flatnonzero((helper == n) & (cost < np.inf)):
        others = (helper == n) & (np.arange(helper.size) != kept)
        left = np.where(others, np.inf, cost)
        sets, value = solve(np.array([t]), left)
        if not value[0] < least:
            continue  # not even without the constraint
        found, worth = sets[0], float(value[0])
        if _doubled(found, helper) >= 0:
            found, worth = _branched(solve, left, t, found, helper)
        if worth < least:
            best, least = found, worth
    return best, least
