r"""Exact cheapest helper set of a token under a deviation cap.

.. math:: \min_{S} \sum_{n \in S} c_n \quad \text{s.t.} \quad
          D(S) = \sum_i \min\Big(b_i, \min_{n \in S} d_{i,n}\Big) \le \epsilon

One and two slots have closed forms. More are solved by depth-first branch and bound: a helper's
reduction :math:`r_n = \min(\mathrm{need}, \sum_i (cur_i - d_{i,n})^+)` only shrinks as others
are opened (D is supermodular), so every completion satisfies
:math:`\sum_n r_n \ge \mathrm{need}`, and that row's fractional knapsack is a lower bound. Our
derivation; docs/theory.md, section 1.

In all functions ``served`` (E, N) and ``base`` (E,) are those of ``HelperTables``, ``weights``
the slots' (T, K) weights, ``cost`` (N,) a helper's price (infinite: unreachable) and sets are
(T, K) helper indices padded with -1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.policies.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

#: Rounding that is forgiven in D(S) <= epsilon, relative to 1 + epsilon.
FEASIBILITY_SLACK = 1e-12
#: A branch must promise to be cheaper by this share to be followed, a move to be made.
IMPROVEMENT = 1e-12


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


@compiled
def _expand(
    d: FloatArray,
    cost: FloatArray,
    cur: FloatArray,
    need: float,
    parent: IntArray,
    spent: float,
    best: float,
    last: bool,
    child: IntArray,
    gain: FloatArray,
    ratio: FloatArray,
) -> tuple[int, float, int]:
    """Candidates of a node, by ascending cost per reduction, and its best completing helper.

    Returns how many candidates there are, the best total cost (as given if no helper completes
    the set more cheaply) and the helper that attains it, or -1.
    """
    slots = cur.size
    count = 0
    finisher = -1
    for n in parent:
        if spent + cost[n] >= best:
            continue
        reduction = 0.0
        for i in range(slots):
            reduction += max(cur[i] - d[i, n], 0.0)
        if reduction >= need:
            best = spent + cost[n]
            finisher = n
        elif reduction > 0.0 and not last:
            key = cost[n] / reduction
            at = count
            while at > 0 and ratio[at - 1] > key:
                child[at], gain[at], ratio[at] = child[at - 1], gain[at - 1], ratio[at - 1]
                at -= 1
            child[at], gain[at], ratio[at] = n, reduction, key
            count += 1
    return count, best, finisher


@compiled
def _knapsack(
    cost: FloatArray, members: IntArray, gain: FloatArray, need: float, room: float
) -> bool:
    """Whether the fractional cover of ``need`` by the sorted candidates costs less than room."""
    total = 0.0
    for at in range(members.size):
        if gain[at] >= need:
            pays: bool = total + cost[members[at]] * (need / gain[at]) < room
            return pays
        total += cost[members[at]]
        need -= gain[at]
        if total >= room:
            return False
    return False  # not even all of them together reach the cap


@compiled
def _branch_and_bound(
    d: FloatArray, base: FloatArray, cost: FloatArray, cap: float, chosen: IntArray
) -> float:
    slots, helpers = d.shape
    cur = np.empty((slots, slots))
    child = np.empty((slots, helpers), np.int64)
    gain = np.empty((slots, helpers))
    ratio = np.empty((slots, helpers))
    count, at = np.zeros(slots, np.int64), np.zeros(slots, np.int64)
    need, spent = np.empty(slots), np.zeros(slots)
    opened = np.empty(slots, np.int64)
    reachable = np.empty(helpers, np.int64)
    size = 0
    for n in range(helpers):
        if cost[n] < np.inf:
            reachable[size] = n
            size += 1
    cur[0] = base
    need[0] = base.sum() - cap
    count[0], best, finisher = _expand(
        d, cost, cur[0], need[0], reachable[:size], 0.0, np.inf, False, child[0], gain[0], ratio[0]
    )
    if finisher >= 0:
        chosen[0] = finisher
    depth = 0
    while depth >= 0:
        first, last = at[depth], count[depth]
        room = best * (1.0 - IMPROVEMENT) - spent[depth]
        if first >= last or not _knapsack(
            cost, child[depth, first:last], gain[depth, first:last], need[depth], room
        ):
            depth -= 1
            continue
        at[depth] += 1  # include it below; when that is done, go on without it
        n = child[depth, first]
        opened[depth] = n
        below = depth + 1
        total = 0.0
        for i in range(slots):
            cur[below, i] = min(cur[depth, i], d[i, n])
            total += cur[below, i]
        need[below] = total - cap
        spent[below] = spent[depth] + cost[n]
        count[below], best, finisher = _expand(
            d,
            cost,
            cur[below],
            need[below],
            child[depth, first + 1 : last],
            spent[below],
            best,
            below == slots - 1,
            child[below],
            gain[below],
            ratio[below],
        )
        at[below] = 0
        if finisher >= 0:
            chosen[:] = -1
            chosen[:below] = opened[:below]
            chosen[below] = finisher
        depth = below
    return best


@compiled
def _solve(
    d: FloatArray, base: FloatArray, cost: FloatArray, cap: float, chosen: IntArray
) -> float:
    """Cost of the cheapest set of one token; infinite, and no set, if there is none."""
    chosen[:] = -1
    if base.sum() <= cap:
        return 0.0
    if base.size == 1:
        return _one_slot(d, cost, cap, chosen)
    if base.size == 2:
        return _two_slots(d, cost, cap, chosen)
    return _branch_and_bound(d, base, cost, cap, chosen)


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


@compiled
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
        total[t] = _solve(d, without, cost, cap[t], sets[t])
    return sets, total


@compiled
def cover_respond(
    routed: IntArray,
    weights: FloatArray,
    served: FloatArray,
    base: FloatArray,
    marginal: FloatArray,
    cap: FloatArray,
    order: IntArray,
    sets: IntArray,
    loads: IntArray,
) -> int:
    """One pass of best response: tokens leave, choose anew at marginal prices, return.

    ``marginal`` (N, Q) is :math:`e_n(q+1) - e_n(q)`, ``order`` the tokens to visit. Changes
    ``sets`` and ``loads`` in place; a token whose set is empty is inserted. Returns the moves.
    """
    slots = routed.shape[1]
    moves = 0
    cost = np.empty(loads.size)
    for n in range(loads.size):
        cost[n] = marginal[n, loads[n]]
    d, without = np.empty((slots, loads.size)), np.empty(slots)
    chosen = np.empty(slots, np.int64)
    for t in order:
        now = 0.0
        for n in sets[t]:
            if n >= 0:
                loads[n] -= 1
                cost[n] = marginal[n, loads[n]]
                now += cost[n]
        _load(routed[t], weights[t], served, base, cap[t], d, without)
        price = _solve(d, without, cost, cap[t], chosen)
        if price < np.inf and (now == 0.0 or price < now * (1.0 - IMPROVEMENT)):
            moves += 1 if np.any(chosen != sets[t]) else 0
            sets[t] = chosen
        for n in sets[t]:
            if n >= 0:
                loads[n] += 1
                cost[n] = marginal[n, loads[n]]
    return moves
