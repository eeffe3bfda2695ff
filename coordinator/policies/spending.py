r"""Spend what is left of an average budget, move by move.

A price on deviation meets a budget only up to a step. Starting within the budget, the token and
the change of one member (drop it, or swap it) that save most energy without leaving the budget
are looked for and made, until there are none. docs/theory.md, section 2.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.policies.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Savings below this share of a token's energy are rounding.
_LEAST_SAVING = 1e-12


@compiled
def _deviation(
    routed: IntArray,
    weights: FloatArray,
    served: FloatArray,
    base: FloatArray,
    members: IntArray,
    swapped: int,
    other: int,
) -> float:
    """Deviation of a token whose member number ``swapped`` is ``other`` instead."""
    total = 0.0
    for i in range(routed.size):
        least = base[routed[i]]
        for j in range(members.size):
            n = other if j == swapped else members[j]
            if n >= 0:
                least = min(least, served[routed[i], n])
        if weights[i] != 0.0:
            total += weights[i] * least
    return total


@compiled
def spend_left_over(
    routed: IntArray,
    weights: FloatArray,
    served: FloatArray,
    base: FloatArray,
    marginal: FloatArray,
    left: float,
    most: int,
    sets: IntArray,
    loads: IntArray,
) -> float:
    """Make saving moves while deviation is left; changes ``sets`` and ``loads``.

    Parameters
    ----------
    routed, weights, served, base
        As in ``cover``.
    marginal : (N, Q) float64, J
        Infinite from the capacity on.
    left : float
        Deviation that may still be added, over all tokens.
    most : int
        Moves at most.

    Returns
    -------
    float
        Deviation that is still left.
    """
    tokens, width = sets.shape
    helpers = loads.size
    now = np.empty(tokens)
    for t in range(tokens):
        now[t] = _deviation(routed[t], weights[t], served, base, sets[t], -1, -1)
    for _ in range(most):
        best, who, which, where = 0.0, -1, -1, -1
        for t in range(tokens):
            for j in range(width):
                a = sets[t, j]
                if a < 0:
                    continue
                refund = marginal[a, loads[a] - 1]
                if refund <= best:
                    continue
                for b in range(-1, helpers):
                    saving = refund - (0.0 if b < 0 else marginal[b, loads[b]])
                    if b == a or saving <= best or saving <= _LEAST_SAVING * refund:
                        continue
                    held = False
                    for n in sets[t]:
                        held = held or (n == b and b >= 0)
                    if held:
                        continue
                    more = _deviation(routed[t], weights[t], served, base, sets[t], j, b) - now[t]
                    if more <= left:
                        best, who, which, where = saving, t, j, b
        if who < 0:
            break
        loads[sets[who, which]] -= 1
        if where >= 0:
            loads[where] += 1
        sets[who, which] = where
        before = now[who]
        now[who] = _deviation(routed[who], weights[who], served, base, sets[who], -1, -1)
        left -= now[who] - before
    return left
