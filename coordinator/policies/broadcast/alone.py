r"""Tokens with windows of their own: each token's exact set of ways.

A token alone divides its windows among its own requests and answers, so

.. math:: \min_A w_u E_u(A) + w_d E_d(A) + \lambda D(A), \qquad
          D(A) = \sum_i \min\Big(b_i, \min_{h \in A} d_{i,h}\Big)

(or the least energy within a cap), with :math:`E_u` the window's energy of A's requests or, in a
broadcast, of the one for its worst link. A way added to A costs at least what it costs alone in a
whole window, so at a node with ways C opened a further one saves at most
:math:`s_h = (r_h - c_h)^+` as in ``siftmoe.coordinator.policies.token.price``, and at most K - |C|
more are of use: depth-first branch and bound. Own derivation: docs/explanation/theory.md,
section 9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.coordinator.compiled import compiled, compiled_over
from siftmoe.coordinator.energy import window
from siftmoe.coordinator.energy.window import window_energy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.energy.medium import Medium
    from siftmoe.coordinator.energy.one_band import OneBand
    from siftmoe.coordinator.policies.loads.tables import HelperTables
    from siftmoe.coordinator.selection.problem import SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Steps after which a token's search is given up, some 50 ms; a node takes one for each slot of
#: each way.
MOST_STEPS: Final = 30_000_000
_LEAST_NODES: Final = 2_000
#: What is better by less than this share is not looked for.
_CLOSE: Final = 1e-12
_UP, _DOWN = 0, 1


def select_alone(
    problem: SelectionProblem, tables: HelperTables, medium: Medium, *, cap: FloatArray | None
) -> tuple[IntArray, FloatArray, bool]:
    """Best ways (T, K) of every token, its objective (T,), and whether all are proved.

    Parameters
    ----------
    problem, tables, medium
        As of ``select_in_band``.
    cap : (T,) float64 or None
        Largest deviation of every token; None: the problem's budget is a price.
    """
    bands = [medium.up, medium.up if medium.down is None else medium.down]
    sizes = (
        np.repeat(list(medium.bits.values()), len(medium.reply_bits)),
        np.tile(list(medium.reply_bits.values()), len(medium.bits)),
    )
    parts = [
        _ways(band, np.tile(bits, medium.num_helpers), tables.helper)
        for band, bits in zip(bands, sizes, strict=True)
    ]
    if medium.down is None:
        parts[_DOWN][:2] = 0.0
    width = np.tile(
        np.repeat(np.arange(len(medium.bits)), len(medium.reply_bits)), medium.num_helpers
    )
    most = max(_LEAST_NODES, MOST_STEPS // (len(width) * problem.top_k))
    sets, value, nodes = _every_token(
        problem.routed_experts,
        problem.slot_weights() * (1.0 if cap is not None else problem.budget.value),
        tables.served,
        tables.base,
        np.zeros(0) if cap is None else cap,
        np.stack(parts),
        width if medium.broadcast else np.full_like(width, -1),
        np.array([band.window_s for band in bands]),
        np.array([band.price for band in bands]),
        most,
    )
    return sets, value, bool(np.all(nodes < most))


def _ways(band: OneBand, bits: FloatArray, helper: IntArray) -> FloatArray:
    """Priced energy alone, Hz s, noise, circuits and limit of each way, (5, H)."""
    each = np.unique(bits)
    alone = {float(b): band.alone_j(float(b)) for b in each}
    energy = np.array([alone[float(b)][n] for b, n in zip(bits, helper, strict=True)])
    return np.stack(
        [
            band.price * energy,
            bits / band.bandwidth_hz,
            band.noise_w[helper],
            band.circuit_w[helper],
            band.limit[helper],
        ]
    )


@compiled_over(window)
def _every_token(
    routed: IntArray,
    weights: FloatArray,
    served: FloatArray,
    base: FloatArray,
    cap: FloatArray,
    parts: FloatArray,
    width: IntArray,
    window_s: FloatArray,
    price: FloatArray,
    most_nodes: int,
) -> tuple[IntArray, FloatArray, IntArray]:
    tokens, slots = routed.shape
    sets = np.full((tokens, slots), -1, np.int64)
    value, nodes = np.empty(tokens), np.zeros(tokens, np.int64)
    d, without = np.empty((slots, served.shape[1])), np.empty(slots)
    for t in range(tokens):
        for i in range(slots):
            w = weights[t, i]
            without[i] = 0.0 if w == 0.0 else w * base[routed[t, i]]
            for h in range(served.shape[1]):
                d[i, h] = 0.0 if w == 0.0 else min(w * served[routed[t, i], h], 1e300)
        limit = cap[t] if cap.size else -1.0
        value[t], nodes[t] = _best_set(
            d, without, limit, parts, width, window_s, price, most_nodes, sets[t]
        )
    return sets, value, nodes


@compiled_over(window)
def _best_set(
    d: FloatArray,
    base: FloatArray,
    cap: float,
    parts: FloatArray,
    width: IntArray,
    window_s: FloatArray,
    price: FloatArray,
    most_nodes: int,
    chosen: IntArray,
) -> tuple[float, int]:
    """Branch and bound over one token's sets; ``cap`` below 0: deviations are priced in J."""
    slots, ways = d.shape
    capped = cap >= 0.0
    cur = np.empty((slots + 1, slots))
    stack = np.full(slots + 1, -1, np.int64)
    cur[0] = base
    best = np.inf
    if not capped or base.sum() <= cap:
        best = 0.0 if capped else base.sum()
    following = np.zeros(slots + 1, np.int64)
    spent = np.zeros(slots + 1)
    savings = np.empty(slots)
    depth, nodes = 0, 0
    while depth >= 0 and nodes < most_nodes:
        h = following[depth]
        if depth == slots or h == ways:
            depth -= 1
            continue
        following[depth] += 1
        nodes += 1
        more = parts[_DOWN, 0, h] + (parts[_UP, 0, h] if width[h] < 0 else 0.0)
        if width[h] >= 0 and depth > 0 and width[h] != width[stack[0]]:
            continue
        if not spent[depth] + more < best:
            continue
        left = 0.0
        for i in range(slots):
            cur[depth + 1, i] = min(cur[depth, i], d[i, h])
            left += cur[depth + 1, i]
        stack[depth] = h
        if left >= cur[depth].sum():  # it serves nothing better
            continue
        here = spent[depth] + more
        if width[h] >= 0:  # a broadcast: the request for the worst link is the only one
            worst = parts[_UP, 0, h]
            for k in range(depth):
                worst = max(worst, parts[_UP, 0, stack[k]])
            here = max(here, worst + more)
        if not here + _least_left(d, cur[depth + 1], cap, parts, width, h, depth, savings) < best:
            continue
        cost = _energy(stack[: depth + 1], parts, width, window_s, price)
        if capped:
            if left <= cap and cost < best * (1.0 - _CLOSE):
                best = cost
                for k in range(slots):
                    chosen[k] = stack[k] if k <= depth else -1
        elif cost + left < best * (1.0 - _CLOSE):
            best = cost + left
            for k in range(slots):
                chosen[k] = stack[k] if k <= depth else -1
        spent[depth + 1] = cost
        following[depth + 1] = h + 1
        depth += 1
    return best, nodes


@compiled
def _least_left(
    d: FloatArray,
    cur: FloatArray,
    cap: float,
    parts: FloatArray,
    width: IntArray,
    last: int,
    depth: int,
    savings: FloatArray,
) -> float:
    """Least that must be added to a node's energy: its deviation less what further ways save."""
    if cap >= 0.0:
        return 0.0
    slots, ways = d.shape
    more = slots - depth - 1
    savings[:] = 0.0
    for h in range(last + 1, ways):
        if width[h] != width[last] and width[h] >= 0:
            continue
        saving = -parts[_DOWN, 0, h] - (parts[_UP, 0, h] if width[h] < 0 else 0.0)
        for i in range(slots):
            saving += max(cur[i] - d[i, h], 0.0)
        for k in range(more):  # the largest first
            if saving > savings[k]:
                savings[k], saving = saving, savings[k]
    left: float = cur.sum()
    for k in range(more):
        left -= savings[k]
    return max(left, 0.0)


@compiled_over(window)
def _energy(
    ways: IntArray,
    parts: FloatArray,
    width: IntArray,
    window_s: FloatArray,
    price: FloatArray,
) -> float:
    """Priced energy of a token's ways, J; infinite where they do not fit its windows."""
    total = 0.0
    for side in range(2):
        if side == _UP and width[ways[0]] >= 0:
            worst = 0.0
            for h in ways:
                worst = max(worst, parts[_UP, 0, h])
            total += worst
        elif ways.size == 1:
            total += parts[side, 0, ways[0]]
        else:
            total += price[side] * window_energy(
                parts[side, 1][ways],
                parts[side, 2][ways],
                parts[side, 3][ways],
                parts[side, 4][ways],
                window_s[side],
            )
    return total
