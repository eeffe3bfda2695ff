r"""Values of a broadcast's options where answers have a price: compiled inner loops.

For every token, width b and worst listener w

.. math:: v_{w,b} = \min_{A \subseteq S(w)} \sum_{(n,v) \in A} c_{n,v}
          + \lambda \sum_i \min\Big(b_i, \min_{(n,v) \in A} d_{i,n,b,v}\Big)

with :math:`c_{n,v}` the cost of an answer of width v from helper n, or the cheapest A under a cap.
The oracles are those of single tokens, with the ways of helpers that do not hear it out of reach.
Own derivation: docs/explanation/theory.md, section 9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled_over
from siftmoe.coordinator.policies.token import cover, price, relaxation, tree
from siftmoe.coordinator.policies.token.cover import solve as solve_cover
from siftmoe.coordinator.policies.token.price import solve as solve_price

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


@compiled_over(cover, price, relaxation, tree)
def best_answers(
    routed: IntArray,
    weights: FloatArray,
    served: FloatArray,
    base: FloatArray,
    cost: FloatArray,
    price_j: float,
    cap: FloatArray,
    only: IntArray,
) -> tuple[FloatArray, IntArray]:
    """Values of options and the ways that answer.

    Parameters
    ----------
    routed, weights : (T, K)
    served : (B, E, R, V) float64
        By rank, best link first.
    base : (E,) float64
    cost : (R, V) float64, J
        Of an answer; infinite where there is none.
    price_j : float, J
        Of a unit of deviation, where there is no cap.
    cap : (T,) float64 or (0,)
        Largest deviations; empty: deviation has a price.
    only : (T,) int64 or (0,)
        The one option of each token that is wanted; empty: all.

    Returns
    -------
    value : (T, 1 + R B) float64, J
        Of the options (rank, width), after that of sending nothing; with ``only`` not filled.
    sets : (T, K) int64
        With ``only``, ways (rank, width back) of each token, padded with -1.
    """
    widths, _, ranks, back = served.shape
    tokens, slots = routed.shape
    value = np.zeros((tokens, 1 + ranks * widths if only.size == 0 else 0))
    sets = np.full((tokens, slots), -1, np.int64)
    d, without = np.empty((slots, ranks * back)), np.empty(slots)
    heard = np.empty(ranks * back)
    chosen = np.empty(slots, np.int64)
    for t in range(tokens):
        limit = cap[t] if cap.size else np.inf
        ceiling = 2.0 * limit + 1.0
        scale = 1.0 if cap.size else price_j
        alone = 0.0
        for i in range(slots):
            w = scale * weights[t, i]
            without[i] = 0.0 if w == 0.0 else min(w * base[routed[t, i]], ceiling)
            alone += without[i]
        if only.size == 0:
            value[t, 0] = alone
            if cap.size:
                value[t, 0] = 0.0 if alone <= limit else np.inf
        elif only[t] == 0:
            continue
        for b in range(widths):
            if only.size and (only[t] - 1) % widths != b:
                continue
            for i in range(slots):
                w = scale * weights[t, i]
                for r in range(ranks):
                    for v in range(back):
                        here = served[b, routed[t, i], r, v]
                        d[i, r * back + v] = 0.0 if w == 0.0 else min(w * here, ceiling)
            heard[:] = np.inf
            for r in range(ranks):
                for v in range(back):
                    heard[r * back + v] = cost[r, v]
                if only.size and (only[t] - 1) // widths != r:
                    continue
                if cap.size:
                    best = solve_cover(d, without, heard, limit, chosen)
                else:
                    best = solve_price(d, without, heard, chosen)
                if only.size == 0:
                    value[t, 1 + r * widths + b] = best
                else:
                    for i in range(slots):
                        sets[t, i] = chosen[i]
    return value, sets
