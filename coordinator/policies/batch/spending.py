r"""Moves under a budget on the sum of deviations.

A price on deviation meets an average budget only up to a step. From there single changes of a
member (drop, swap, add) go on: *spending* makes the change that saves most energy within the
budget until there is none, *repairing* the change that costs least energy per deviation won until
the budget is met. The search changes a few tokens at random, repairs, spends and keeps the result
unless it is worse. docs/explanation/theory.md, section 2.3.

Arguments as in ``cover`` and ``occupancy``; ``total`` is infinite beyond the capacity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled, compiled_over
from siftmoe.coordinator.policies.loads import occupancy
from siftmoe.coordinator.policies.loads.occupancy import shift, step_cost, uniform

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    WordArray = NDArray[np.uint64]

#: Changes of less than this share are rounding.
_ROUNDING = 1e-12
#: Tokens that a round changes at random, at most.
_MOST_CHANGED = 3
#: Moves after which one repair or one spending ends; a round needs a handful.
_MOST_MOVES = 200


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
        total += weights[i] * least
    return total


@compiled
def _holds(members: IntArray, n: int) -> bool:
    found = False
    for m in members:
        found = found or m == n
    return found


@compiled_over(occupancy)
def _step_after(
    total: FloatArray, resource: IntArray, units: IntArray, loads: IntArray, a: int, b: int
) -> float:
    """Energy of one more token by way b once a token by way a, if any, has left."""
    if a < 0 or resource[a, 0] != resource[b, 0]:  # ways of other helpers share nothing
        return step_cost(total, resource, units, loads, b)
    shift(resource, units, loads, a, -1)
    price: float = step_cost(total, resource, units, loads, b)
    shift(resource, units, loads, a, 1)
    return price


@compiled_over(occupancy)
def _best_move(
    routed: IntArray,
    weights: FloatArray,
    served: FloatArray,
    base: FloatArray,
    total: FloatArray,
    resource: IntArray,
    units: IntArray,
    left: float,
    sets: IntArray,
    loads: IntArray,
    now: FloatArray,
    banned: IntArray,
) -> tuple[int, int, int]:
    """Token, member and its successor (-1: nobody) of the best move, or token -1.

    With ``left`` >= 0 the one that saves most energy and needs no more than that, otherwise the
    one that wins deviation at least energy. Token t does not get way ``banned[t]``.
    """
    tokens, width = sets.shape
    best, who, which, successor = (0.0 if left >= 0.0 else np.inf), -1, -1, -1
    for t in range(tokens):
        for j in range(width):
            a = sets[t, j]
            refund = 0.0
            if a >= 0:
                shift(resource, units, loads, a, -1)
                refund = step_cost(total, resource, units, loads, a)
                shift(resource, units, loads, a, 1)
            if left >= 0.0 and refund <= best:
                continue
            for b in range(-1, len(resource)):
                if b == a or (b >= 0 and (b == banned[t] or _holds(sets[t], b))):
                    continue
                paid = -refund
                if b >= 0:
                    paid += _step_after(total, resource, units, loads, a, b)
                if left >= 0.0 and -paid <= max(best, _ROUNDING * refund):
                    continue
                if not paid < np.inf:
                    continue
                more = _deviation(routed[t], weights[t], served, base, sets[t], j, b) - now[t]
                if left >= 0.0:
                    if more <= left:
                        best, who, which, successor = -paid, t, j, b
                elif more < -_ROUNDING * now[t] and paid < -best * more:
                    best, who, which, successor = paid / -more, t, j, b
    return who, which, successor


@compiled_over(occupancy)
def _make_move(
    sets: IntArray,
    loads: IntArray,
    resource: IntArray,
    units: IntArray,
    t: int,
    j: int,
    successor: int,
) -> None:
    if sets[t, j] >= 0:
        shift(resource, units, loads, sets[t, j], -1)
    if successor >= 0:
        shift(resource, units, loads, successor, 1)
    sets[t, j] = successor


@compiled_over(occupancy)
def balance(
    routed: IntArray,
    weights: FloatArray,
    served: FloatArray,
    base: FloatArray,
    total: FloatArray,
    resource: IntArray,
    units: IntArray,
    budget: float,
    sets: IntArray,
    loads: IntArray,
    banned: IntArray,
) -> float:
    """Repair, if the budget is exceeded, then spend; changes ``sets`` and ``loads``.

    Token t does not get way ``banned[t]`` (T,), -1 for any. Returns the deviation that is
    left, negative if the budget cannot be met this way.
    """
    tokens = sets.shape[0]
    now = np.empty(tokens)
    for t in range(tokens):
        now[t] = _deviation(routed[t], weights[t], served, base, sets[t], -1, -1)
    left = budget
    for t in range(tokens):
        left -= now[t]
    for _ in range(_MOST_MOVES):
        t, j, successor = _best_move(
            routed, weights, served, base, total, resource, units, left, sets, loads, now, banned
        )
        if t < 0:
            break
        _make_move(sets, loads, resource, units, t, j, successor)
        before = now[t]
        now[t] = _deviation(routed[t], weights[t], served, base, sets[t], -1, -1)
        left += before - now[t]
    return left


@compiled
def _copy(sets: IntArray, loads: IntArray, from_sets: IntArray, from_loads: IntArray) -> None:
    for t in range(sets.shape[0]):
        for j in range(sets.shape[1]):
            sets[t, j] = from_sets[t, j]
    for n in range(loads.size):
        loads[n] = from_loads[n]


@compiled_over(occupancy)
def explore(
    routed: IntArray,
    weights: FloatArray,
    served: FloatArray,
    base: FloatArray,
    total: FloatArray,
    resource: IntArray,
    units: IntArray,
    budget: float,
    rounds: int,
    state: WordArray,
    sets: IntArray,
    loads: IntArray,
) -> None:
    """Search around sets that meet the budget; changes ``sets`` and ``loads``.

    ``state`` (1,) is the seed of the random numbers, not zero.
    """
    (tokens, width), ways = sets.shape, len(resource)
    best = 0.0
    for r in range(loads.size):
        best += total[r, loads[r]]
    kept, kept_loads = sets.copy(), loads.copy()
    banned = np.full(tokens, -1, np.int64)
    for _ in range(rounds):
        firm = uniform(state) < 0.5  # or the repair may well undo the changes
        for _change in range(1 + int(uniform(state) * _MOST_CHANGED)):
            t, j = int(uniform(state) * tokens), int(uniform(state) * width)
            h = int(uniform(state) * (ways + 1)) - 1
            room = h < 0 or step_cost(total, resource, units, loads, h) < np.inf
            if room and (h < 0 or not _holds(sets[t], h)):
                banned[t] = sets[t, j] if firm else -1
                _make_move(sets, loads, resource, units, t, j, h)
        left = balance(
            routed,
            weights,
            served,
            base,
            total,
            resource,
            units,
            budget,
            sets,
            loads,
            banned,
        )
        for t in range(tokens):
            banned[t] = -1
        now = 0.0
        for r in range(loads.size):
            now += total[r, loads[r]]
        if left >= 0.0 and now <= best:
            best = now
            _copy(kept, kept_loads, sets, loads)
        else:
            _copy(sets, loads, kept, kept_loads)
