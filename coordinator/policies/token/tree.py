r"""Branch and bound for the cheapest helper set of a token of three or more slots.

A node has helpers C opened, :math:`cur_i = \min(b_i, \min_{n \in C} d_{i,n})` and
:math:`\mathrm{need} = \sum_i cur_i - \epsilon`. Three facts cut the tree:

*Cover.* A helper's reduction :math:`r_n = \sum_i (cur_i - d_{i,n})^+` only shrinks as others are
opened (D is supermodular), so every completion R satisfies :math:`\sum_{n \in R} \min(r_n,
\mathrm{need}) \ge \mathrm{need}`, and the fractional knapsack of that row bounds its cost.

*Reach.* If all candidates up to some cost together miss the cap, the set has a dearer member.

*Reduced costs.* A bound of the linear relaxation grows with every helper that is opened by its
reduced cost (``relaxation``).

A first search by ascending cost per reduction uses the first and settles most tokens within a
few nodes; the others go to a second one, by descending cost, that uses the other two.

Our derivation; docs/explanation/theory.md, section 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled, compiled_over
from siftmoe.coordinator.policies.token import relaxation
from siftmoe.coordinator.policies.token.relaxation import IMPROVEMENT, reduced_costs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Nodes of the first search after which the second is worth its reduced costs.
_FEW_NODES = 60


@compiled
def _reachable(cost: FloatArray) -> IntArray:
    """Helpers of finite cost."""
    members = np.empty(cost.size, np.int64)
    size = 0
    for n in range(cost.size):
        if cost[n] < np.inf:
            members[size] = n
            size += 1
    return members[:size]


@compiled
def _record(chosen: IntArray, opened: IntArray, depth: int, last: int) -> None:
    """Write down a set: what is opened above this depth, and one more."""
    for j in range(chosen.size):
        chosen[j] = opened[j] if j < depth else -1
    chosen[depth] = last


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
    """List a node's candidates by ascending cost per reduction, and its best completing helper.

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
def _search_best_ratio_first(
    d: FloatArray, base: FloatArray, cost: FloatArray, cap: float, most: int, chosen: IntArray
) -> tuple[float, bool]:
    """Least cost found within ``most`` nodes, and whether the search came to its end.

    Opens the helper of least cost per reduction first, which finds a good set at once, and cuts
    by the fractional cover.
    """
    slots, helpers = d.shape
    cur = np.empty((slots, slots))
    child = np.empty((slots, helpers), np.int64)
    gain, ratio = np.empty((slots, helpers)), np.empty((slots, helpers))
    count, at = np.zeros(slots, np.int64), np.zeros(slots, np.int64)
    need, spent = np.empty(slots), np.zeros(slots)
    opened = np.empty(slots, np.int64)
    candidates = _reachable(cost)
    nodes, depth, fresh, best = 0, 0, True, np.inf
    need[0] = -cap
    for i in range(slots):
        cur[0, i] = base[i]
        need[0] += base[i]
    while depth >= 0:
        if fresh:
            nodes += 1
            if nodes > most:
                return best, False
            count[depth], best, finisher = _expand(
                d,
                cost,
                cur[depth],
                need[depth],
                candidates,
                spent[depth],
                best,
                depth == slots - 1,
                child[depth],
                gain[depth],
                ratio[depth],
            )
            at[depth] = 0
            if finisher >= 0:
                _record(chosen, opened, depth, finisher)
        first, last = at[depth], count[depth]
        room = best * (1.0 - IMPROVEMENT) - spent[depth]
        fresh = first < last and _knapsack(
            cost, child[depth, first:last], gain[depth, first:last], need[depth], room
        )
        if not fresh:
            depth -= 1
            continue
        at[depth] += 1  # include it below; when that is done, go on without it
        n = child[depth, first]
        opened[depth] = n
        below = depth + 1
        need[below] = -cap
        for i in range(slots):
            cur[below, i] = min(cur[depth, i], d[i, n])
            need[below] += cur[below, i]
        spent[below] = spent[depth] + cost[n]
        candidates = child[depth, first + 1 : last]
        depth = below
    return best, True


@compiled_over(relaxation)
def _search_dearest_first(
    d: FloatArray, base: FloatArray, cost: FloatArray, cap: float, best: float, chosen: IntArray
) -> float:
    """Least cost below ``best``, if any, opening the members of a set by descending cost.

    With all candidates up to some cost the cap may still be out of reach; the dearest member
    must then lie beyond, which settles tokens that only a dear helper can save. ``chosen`` is
    changed when something better is found.
    """
    slots, helpers = d.shape
    slack, floor = np.zeros(helpers), np.full(slots, -np.inf)
    if best < np.inf:
        floor[0] = reduced_costs(d, base, cost, cap, best, slack)
    cur = np.empty((slots, slots))
    child = np.empty((slots, helpers), np.int64)
    count, at = np.zeros(slots, np.int64), np.zeros(slots, np.int64)
    need, spent = np.empty(slots), np.zeros(slots)
    opened, least = np.empty(slots, np.int64), np.empty(slots)
    candidates = _reachable(cost)
    for k in range(1, candidates.size):  # by ascending cost
        n, put = candidates[k], k
        while put > 0 and cost[candidates[put - 1]] > cost[n]:
            candidates[put] = candidates[put - 1]
            put -= 1
        candidates[put] = n
    depth, fresh = 0, True
    need[0] = -cap
    for i in range(slots):
        cur[0, i] = base[i]
        need[0] += base[i]
    while depth >= 0:
        goal = best * (1.0 - IMPROVEMENT)
        if fresh:
            size, start, rate = 0, -1, np.inf
            for i in range(slots):
                least[i] = cur[depth, i]
            for n in candidates:
                if spent[depth] + cost[n] >= goal:
                    break
                if floor[depth] + slack[n] >= goal:
                    continue
                reduction, hope = 0.0, 0.0
                for i in range(slots):
                    reduction += max(cur[depth, i] - d[i, n], 0.0)
                    least[i] = min(least[i], d[i, n])
                    hope += least[i]
                if reduction >= need[depth]:  # what follows is dearer
                    best = spent[depth] + cost[n]
                    _record(chosen, opened, depth, n)
                    break
                if reduction > 0.0:
                    rate = min(rate, cost[n] / reduction)
                    child[depth, size] = n
                    if start < 0 and hope <= cap:
                        start = size
                    size += 1
            goal = best * (1.0 - IMPROVEMENT)
            hopeless = start < 0 or depth == slots - 1 or spent[depth] + rate * need[depth] >= goal
            count[depth], at[depth] = (0, 0) if hopeless else (size, start)
        first, fresh = at[depth], False
        if first >= count[depth] or spent[depth] + cost[child[depth, first]] >= goal:
            depth -= 1
            continue
        at[depth] += 1
        n = child[depth, first]
        if floor[depth] + slack[n] >= goal:
            continue
        opened[depth] = n
        below = depth + 1
        floor[below] = floor[depth] + slack[n]
        need[below] = -cap
        for i in range(slots):
            cur[below, i] = min(cur[depth, i], d[i, n])
            need[below] += cur[below, i]
        spent[below] = spent[depth] + cost[n]
        candidates = child[depth, :first]
        depth, fresh = below, True
    return best


@compiled_over(relaxation)
def branch_and_bound(
    d: FloatArray, base: FloatArray, cost: FloatArray, cap: float, chosen: IntArray
) -> float:
    """Cost of the cheapest set, infinite if there is none.

    Parameters
    ----------
    d : (K, N) float64
        Deviation of each slot by helper, K >= 2, at most ``base``.
    base : (K,) float64
        Deviation without a helper; their sum exceeds the cap.
    cost : (N,) float64
        Price of each helper, infinite for one out of reach.
    cap : float
    chosen : (K,) int64
        Filled with the set, padded with -1.
    """
    best, done = _search_best_ratio_first(d, base, cost, cap, _FEW_NODES, chosen)
    if done or best == 0.0:
        return best
    return _search_dearest_first(d, base, cost, cap, best, chosen)
