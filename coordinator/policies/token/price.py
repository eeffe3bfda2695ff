r"""Exact best helper set of a token when deviation has a price.

.. math:: \min_{S} \sum_{n \in S} c_n + \lambda \sum_i \min\Big(b_i, \min_{n \in S} d_{i,n}\Big)

is facility location with the slots as customers. One and two slots have closed forms in O(N).
More are solved by depth-first branch and bound: at a node with helpers C opened, a further one
saves at most :math:`s_n = (r_n - c_n)^+`, its net saving on its own, and at most K - |C| more
are of use, so :math:`c(C) + \lambda D(C)` less the K - |C| largest :math:`s_n` is a lower bound.
Where that does not prune, up to ``MAX_SUBSET_SLOTS`` slots, the token is solved over subsets U
of its slots in :math:`O(2^K N + 3^K)`, whatever the data:

.. math:: w_U = \min_n c_n + \lambda \sum_{i \in U} d_{i,n}, \qquad
          f_U = \min\Big(\lambda b_i + f_{U \setminus i},
                \min_{V \subseteq U,\, i \in V} w_V + f_{U \setminus V}\Big), \quad i = \min U

Our derivation; docs/explanation/theory.md, section 1. Arguments are those of ``cover``, ``price``
is :math:`\lambda`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled, compiled_over
from siftmoe.coordinator.policies.loads import occupancy
from siftmoe.coordinator.policies.loads.occupancy import current_costs, enter, leave

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: 2**K numbers of memory and 3**K steps per token are affordable up to here.
MAX_SUBSET_SLOTS = 10
#: Nodes of the search per step of the subset recursion before that takes over.
_NODES_PER_SUBSET_STEP = 1 / 64
#: A branch must promise to be better by this share to be followed, a move to be made.
IMPROVEMENT = 1e-12


@compiled
def _few_slots(d: FloatArray, base: FloatArray, cost: FloatArray, chosen: IntArray) -> float:
    """One or two slots in O(N): nobody, one helper, or the best of each slot."""
    best = 0.0
    for i in range(base.size):
        best += base[i]
    if base.size == 1:
        for n in range(cost.size):
            if cost[n] + d[0, n] < best:
                best = cost[n] + d[0, n]
                chosen[0] = n
        return best
    first = second = np.inf
    a = b = -1
    for n in range(cost.size):
        c = cost[n]
        if c + d[0, n] + d[1, n] < best:
            best = c + d[0, n] + d[1, n]
            chosen[0] = n
        if c + d[0, n] < first:
            first = c + d[0, n]
            a = n
        if c + d[1, n] < second:
            second = c + d[1, n]
            b = n
    if a != b and first + second < best:
        best = first + second
        chosen[0] = a
        chosen[1] = b
    return best


@compiled
def _by_subsets(d: FloatArray, base: FloatArray, cost: FloatArray, chosen: IntArray) -> float:
    slots = base.size
    full = (1 << slots) - 1
    best, who = np.full(full + 1, np.inf), np.full(full + 1, -1, np.int64)
    total = np.empty(full + 1)
    for n in range(cost.size):
        worth = 0.0
        for i in range(slots):
            worth += base[i] - d[i, n]
        if not cost[n] < worth:
            continue  # saves less than it costs even alone, hence in every set
        total[0] = cost[n]
        for i in range(slots):
            for u in range(1 << i):
                total[(1 << i) + u] = total[u] + d[i, n]
        for u in range(1, full + 1):
            if total[u] < best[u]:
                best[u] = total[u]
                who[u] = n
    value, part = np.zeros(full + 1), np.zeros(full + 1, np.int64)
    lowest = 0
    for u in range(1, full + 1):
        while not (u >> lowest) & 1:
            lowest += 1
        rest = u ^ (1 << lowest)
        value[u] = base[lowest] + value[rest]
        others = rest  # every subset of the rest joins the lowest slot in turn
        while True:
            v = others | (1 << lowest)
            if best[v] + value[u ^ v] < value[u]:
                value[u] = best[v] + value[u ^ v]
                part[u] = v
            if others == 0:
                break
            others = (others - 1) & rest
        lowest = 0
    u = full
    size = 0
    while u:
        if part[u]:
            twice = False  # at prices of deviation beyond which costs are rounding, one may be
            for k in range(size):
                twice = twice or chosen[k] == who[part[u]]
            if not twice:
                chosen[size] = who[part[u]]
                size += 1
            u ^= part[u]
        else:
            u &= u - 1
    least: float = value[full]
    return least


@compiled
def _by_branching(
    d: FloatArray, base: FloatArray, cost: FloatArray, most_nodes: float, chosen: IntArray
) -> float:
    """Best value, or NaN if the search would take more than ``most_nodes``."""
    slots, helpers = d.shape
    nodes = 0
    cur = np.empty((slots + 1, slots))
    child, left = np.empty((slots + 1, helpers), np.int64), np.empty((slots + 1, helpers))
    count, at = np.zeros(slots + 1, np.int64), np.zeros(slots + 1, np.int64)
    spent, opened = np.zeros(slots + 1), np.empty(slots, np.int64)
    for i in range(slots):
        cur[0, i] = base[i]
    for n in range(helpers):
        if cost[n] < np.inf:
            child[0, count[0]] = n
            count[0] += 1
    parents = child[0, : count[0]].copy()
    best = 0.0
    for i in range(base.size):
        best += base[i]
    depth = 0
    fresh = True
    while depth >= 0:
        if fresh:  # candidates that still pay for themselves, by descending net saving
            size = 0
            value = spent[depth]
            for i in range(slots):
                value += cur[depth, i]
            for n in parents:
                saving = -cost[n]
                for i in range(slots):
                    saving += max(cur[depth, i] - d[i, n], 0.0)
                if saving > 0.0:
                    put = size
                    while put > 0 and left[depth, put - 1] < saving:
                        child[depth, put], left[depth, put] = (
                            child[depth, put - 1],
                            left[depth, put - 1],
                        )
                        put -= 1
                    child[depth, put], left[depth, put] = n, saving
                    size += 1
            count[depth], at[depth] = size, 0
            if size and value - left[depth, 0] < best:
                best = value - left[depth, 0]
                for j in range(slots):
                    chosen[j] = opened[j] if j < depth else -1
                chosen[depth] = child[depth, 0]
        value = spent[depth]
        for i in range(slots):
            value += cur[depth, i]
        first, last = at[depth], count[depth]
        nodes += 1
        if nodes > most_nodes:
            return np.nan
        # at most slots - depth more helpers are of use, the best net savings first
        bound = value
        for k in range(first, min(last, first + slots - depth)):
            bound -= left[depth, k]
        if first >= last or depth >= slots - 1 or bound >= best - IMPROVEMENT * abs(best):
            depth -= 1
            fresh = False
            continue
        n = child[depth, first]
        at[depth] += 1
        opened[depth] = n
        spent[depth + 1] = spent[depth] + cost[n]
        for i in range(slots):
            cur[depth + 1, i] = min(cur[depth, i], d[i, n])
        parents = child[depth, first + 1 : last]
        depth += 1
        fresh = True
    return best


@compiled
def solve(d: FloatArray, base: FloatArray, cost: FloatArray, chosen: IntArray) -> float:
    """Best set of one token with priced deviations (K, H) and (K,), and its value."""
    for i in range(base.size):
        chosen[i] = -1
    if base.size <= 2:
        return _few_slots(d, base, cost, chosen)
    if base.size > MAX_SUBSET_SLOTS:
        return _by_branching(d, base, cost, np.inf, chosen)
    value = _by_branching(d, base, cost, _NODES_PER_SUBSET_STEP * 3.0**base.size, chosen)
    if np.isnan(value):
        for i in range(base.size):
            chosen[i] = -1
        value = _by_subsets(d, base, cost, chosen)
    return value


@compiled
def _load(
    routed: IntArray,
    weights: FloatArray,
    served: FloatArray,
    base: FloatArray,
    price: float,
    d: FloatArray,
    without: FloatArray,
) -> None:
    """Priced deviations of one token."""
    for i in range(routed.size):
        w = price * weights[i]
        for n in range(d.shape[1]):
            d[i, n] = 0.0 if w == 0.0 else w * served[routed[i], n]
        without[i] = 0.0 if w == 0.0 else w * base[routed[i]]


@compiled
def price_batch(
    routed: IntArray,
    weights: FloatArray,
    served: FloatArray,
    base: FloatArray,
    cost: FloatArray,
    price: float,
) -> tuple[IntArray, FloatArray]:
    """Best set of every token at fixed prices: sets (T, K) and cost + price * deviation (T,)."""
    tokens, slots = routed.shape
    sets = np.full((tokens, slots), -1, np.int64)
    total = np.empty(tokens)
    d, without = np.empty((slots, cost.size)), np.empty(slots)
    for t in range(tokens):
        _load(routed[t], weights[t], served, base, price, d, without)
        total[t] = solve(d, without, cost, sets[t])
    return sets, total


@compiled_over(occupancy)
def price_respond(
    routed: IntArray,
    weights: FloatArray,
    served: FloatArray,
    base: FloatArray,
    total: FloatArray,
    resource: IntArray,
    units: IntArray,
    group: IntArray,
    begin: IntArray,
    price: float,
    order: IntArray,
    sets: IntArray,
    loads: IntArray,
) -> int:
    """One pass of best response, as ``cover_respond``, on energy plus priced deviation."""
    slots = routed.shape[1]
    moves = 0
    cost = current_costs(total, resource, units, loads)
    d, without = np.empty((slots, len(resource))), np.empty(slots)
    chosen = np.empty(slots, np.int64)
    for t in order:
        _load(routed[t], weights[t], served, base, price, d, without)
        now = leave(sets[t], total, resource, units, group, begin, loads, cost)
        for i in range(slots):
            least = without[i]
            for n in sets[t]:
                if n >= 0:
                    least = min(least, d[i, n])
            now += least
        if solve(d, without, cost, chosen) < now * (1.0 - IMPROVEMENT):
            moves += 1
            for j in range(slots):
                sets[t, j] = chosen[j]
        enter(sets[t], total, resource, units, group, begin, loads, cost)
    return moves
