r"""Exact cheapest helper set of a token under a deviation cap.

.. math:: \min_{S} \sum_{n \in S} c_n \quad \text{s.t.} \quad
          D(S) = \sum_i \min\Big(b_i, \min_{n \in S} d_{i,n}\Big) \le \epsilon

One and two slots have closed forms, more go to ``cover_tree``. Our derivation;
docs/explanation/theory.md, section 1.

In all functions ``served`` (E, H) and ``base`` (E,) are those of ``HelperTables``, ``weights``
the slots' (T, K) weights, ``cost`` (H,) a way's price (infinite: unreachable) and sets are (T, K)
ways padded with -1; where all vectors have one width, the ways are the N helpers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled, compiled_over
from siftmoe.coordinator.policies.loads import occupancy
from siftmoe.coordinator.policies.loads.occupancy import current_costs, enter, leave
from siftmoe.coordinator.policies.token import relaxation
from siftmoe.coordinator.policies.token import tree as cover_tree
from siftmoe.coordinator.policies.token.relaxation import IMPROVEMENT
from siftmoe.coordinator.policies.token.tree import branch_and_bound

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

#: Rounding that is forgiven in D(S) <= epsilon, relative to 1 + epsilon.
FEASIBILITY_SLACK = 1e-12


@compiled
def caps_with_outage(
    routed: IntArray,
    weights: FloatArray,
    served: FloatArray,
    base: FloatArray,
    reachable: BoolArray,
    epsilon: float,
) -> tuple[FloatArray, BoolArray]:
    """Cap of each token (T,): epsilon, or the least deviation in reach where that is more.

    Returns the caps, with rounding slack added, and which tokens are in outage.
    """
    tokens, slots = routed.shape
    least = base.copy()
    for e in range(base.size):
        for n in range(reachable.size):
            if reachable[n] and served[e, n] < least[e]:
                least[e] = served[e, n]
    cap = np.empty(tokens)
    outage = np.zeros(tokens, np.bool_)
    slack = FEASIBILITY_SLACK * (1.0 + epsilon)
    for t in range(tokens):
        total = 0.0
        for i in range(slots):
            if weights[t, i] != 0.0:
                total += weights[t, i] * least[routed[t, i]]
        outage[t] = total > epsilon + slack
        cap[t] = max(total, epsilon) + slack
    return cap, outage


@compiled
def _one_slot(d: FloatArray, cost: FloatArray, cap: float, chosen: IntArray) -> float:
    best = np.inf
    for n in range(cost.size):
        if cost[n] < best and d[0, n] <= cap:
            best = cost[n]
            chosen[0] = n
    return best


@compiled
def _two_slots(d: FloatArray, cost: FloatArray, cap: float, chosen: IntArray) -> float:
    best = np.inf
    least = np.inf  # deviation that the second slot leaves at best
    cheapest = np.inf  # cost of the cheapest second helper
    for n in range(cost.size):
        if cost[n] < np.inf:
            least = min(least, d[1, n])
            cheapest = min(cheapest, cost[n])
            if cost[n] < best and d[0, n] + d[1, n] <= cap:
                best = cost[n]
                chosen[0] = n
    for n in range(cost.size):
        if cost[n] + cheapest >= best or d[0, n] + least > cap:
            continue
        room = cap - d[0, n]
        left = best - cost[n]
        for m in range(cost.size):
            if cost[m] < left and d[1, m] <= room:
                left = cost[m]
                best = cost[n] + left
                chosen[0] = n
                chosen[1] = m
    return best


@compiled_over(cover_tree, relaxation)
def solve(d: FloatArray, base: FloatArray, cost: FloatArray, cap: float, chosen: IntArray) -> float:
    """Cost of the cheapest set of one token; infinite, and no set, if there is none."""
    alone = 0.0
    for i in range(base.size):
        alone += base[i]
        chosen[i] = -1
    if alone <= cap:
        return 0.0
    if base.size == 1:
        return _one_slot(d, cost, cap, chosen)
    if base.size == 2:
        return _two_slots(d, cost, cap, chosen)
    return branch_and_bound(d, base, cost, cap, chosen)


@compiled
def _load(
    routed: IntArray,
    weights: FloatArray,
    served: FloatArray,
    base: FloatArray,
    cap: float,
    d: FloatArray,
    without: FloatArray,
) -> None:
    """Deviations of one token; a slot that alone breaks the cap is as bad at twice the cap."""
    ceiling = 2.0 * cap + 1.0
    for i in range(routed.size):
        w = weights[i]
        for n in range(d.shape[1]):
            d[i, n] = 0.0 if w == 0.0 else min(w * served[routed[i], n], ceiling)
        without[i] = 0.0 if w == 0.0 else min(w * base[routed[i]], ceiling)


@compiled_over(cover_tree, relaxation)
def cover_batch(
    routed: IntArray,
    weights: FloatArray,
    served: FloatArray,
    base: FloatArray,
    cost: FloatArray,
    cap: FloatArray,
) -> tuple[IntArray, FloatArray]:
    """Cheapest set of every token at fixed prices: sets (T, K) and their costs (T,)."""
    tokens, slots = routed.shape
    sets = np.full((tokens, slots), -1, np.int64)
    total = np.empty(tokens)
    d, without = np.empty((slots, cost.size)), np.empty(slots)
    for t in range(tokens):
        _load(routed[t], weights[t], served, base, cap[t], d, without)
        total[t] = solve(d, without, cost, cap[t], sets[t])
    return sets, total


@compiled_over(cover_tree, occupancy, relaxation)
def cover_respond(
    routed: IntArray,
    weights: FloatArray,
    served: FloatArray,
    base: FloatArray,
    total: FloatArray,
    resource: IntArray,
    units: IntArray,
    group: IntArray,
    begin: IntArray,
    cap: FloatArray,
    order: IntArray,
    sets: IntArray,
    loads: IntArray,
) -> int:
    """One pass of best response: tokens leave, choose anew at marginal prices, return.

    ``total``, ``resource``, ``units``, ``group``, ``begin`` and ``loads`` are those of
    ``occupancy``, ``order`` the tokens to visit. Changes ``sets`` and ``loads`` in place; a token
    whose set is empty is inserted. Returns the moves.
    """
    slots = routed.shape[1]
    moves = 0
    cost = current_costs(total, resource, units, loads)
    d, without = np.empty((slots, len(resource))), np.empty(slots)
    chosen = np.empty(slots, np.int64)
    for t in order:
        now = leave(sets[t], total, resource, units, group, begin, loads, cost)
        _load(routed[t], weights[t], served, base, cap[t], d, without)
        price = solve(d, without, cost, cap[t], chosen)
        if price < np.inf and (now == 0.0 or price < now * (1.0 - IMPROVEMENT)):
            changed = False
            for j in range(slots):
                changed = changed or chosen[j] != sets[t, j]
                sets[t, j] = chosen[j]
            moves += 1 if changed else 0
        enter(sets[t], total, resource, units, group, begin, loads, cost)
    return moves
