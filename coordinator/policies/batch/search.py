r"""Best response over listed helper sets, and iterated local search around it.

A token that leaves, takes the cheapest of its sets at the marginal energies
:math:`e_n(q_n + 1) - e_n(q_n)` and returns lowers the total energy by what it saves: an exact
potential game, so passes over the tokens stop where no token alone can improve. The search
releases a few tokens that share a helper, lets them choose at distorted prices, responds again
and keeps the result unless it is worse. docs/explanation/theory.md, section 2.2.

``marginal`` is (N+1, Q) with a last row of zeros for the padding of ``Columns.helper``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled, compiled_over
from siftmoe.coordinator.policies.loads import occupancy
from siftmoe.coordinator.policies.loads.occupancy import uniform

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    IndexArray = NDArray[np.int32]
    WordArray = NDArray[np.uint64]

#: A move must save this share of a token's energy to be made, so that passes end.
_IMPROVEMENT = 1e-12
#: Most passes of best response in a search round.
_MOST_PASSES = 50
#: Tokens released together, and the largest distortion of a price on their return.
_RELEASE_FROM, _RELEASE_TO, _DISTORTION = 2, 6, 0.5
#: Share of the rounds that release any tokens, and the share of them that goes at most.
_UPHEAVAL, _UPHEAVAL_SHARE = 0.1, 0.5


@compiled
def costs_at(marginal: FloatArray, loads: IntArray) -> FloatArray:
    """Price of one more token on every helper, (N+1,)."""
    cost = np.empty(loads.size)
    for n in range(loads.size):
        cost[n] = marginal[n, loads[n]]
    return cost


@compiled
def _cheapest(helper: IndexArray, first: int, last: int, cost: FloatArray) -> tuple[int, float]:
    best, least = first, np.inf
    for k in range(first, last):
        price = 0.0
        for n in helper[k]:
            price += cost[n]
        if price < least:
            best, least = k, price
    return best, least


@compiled
def move(
    members: IndexArray, step: int, marginal: FloatArray, loads: IntArray, cost: FloatArray
) -> None:
    """Add (step 1) or take away (step -1) a token on these helpers."""
    for n in members:
        if n < loads.size - 1:
            loads[n] += step
            cost[n] = marginal[n, loads[n]]


@compiled
def respond(
    start: IntArray,
    helper: IndexArray,
    group: IntArray,
    marginal: FloatArray,
    order: IntArray,
    choice: IntArray,
    loads: IntArray,
    cost: FloatArray,
) -> int:
    """One pass over the tokens; a token without a choice (-1) is inserted."""
    moves = 0
    for t in order:
        k = choice[t]
        now = np.inf
        if k >= 0:
            move(helper[k], -1, marginal, loads, cost)
            now = 0.0
            for n in helper[k]:
                now += cost[n]
        better, price = _cheapest(helper, start[group[t]], start[group[t] + 1], cost)
        if price < now * (1.0 - _IMPROVEMENT):
            choice[t] = k = better
            moves += 1
        move(helper[k], 1, marginal, loads, cost)
    return moves


@compiled
def settle(
    start: IntArray,
    helper: IndexArray,
    group: IntArray,
    marginal: FloatArray,
    order: IntArray,
    choice: IntArray,
    loads: IntArray,
) -> int:
    """Repeat best response until no token moves; changes ``choice`` and ``loads``.

    Parameters
    ----------
    start, helper, group
        Of ``Columns``.
    marginal : (N+1, Q) float64, J
    order : (M,) int64
        Tokens in the order in which they move.
    choice : (M,) int64
        Row of ``helper`` that each token uses, -1 for none yet.
    loads : (N+1,) int64
        The last entry stays zero.

    Returns
    -------
    int
        Passes made.
    """
    cost = costs_at(marginal, loads)
    for done in range(_MOST_PASSES):
        if respond(start, helper, group, marginal, order, choice, loads, cost) == 0:
            return done
    return _MOST_PASSES


@compiled
def potential(total: FloatArray, loads: IntArray) -> float:
    """Energy of the loads, with the price of exceeding capacities."""
    energy = 0.0
    for n in range(total.shape[0]):
        energy += total[n, loads[n]]
    return energy


@compiled
def uses(members: IndexArray, n: int) -> bool:
    """Whether helper n is a member."""
    found = False
    for m in members:
        found = found or m == n
    return found


@compiled
def _copy(into: IntArray, source: IntArray) -> None:
    for k in range(into.size):
        into[k] = source[k]


@compiled_over(occupancy)
def shake(
    start: IntArray,
    helper: IndexArray,
    group: IntArray,
    marginal: FloatArray,
    total: FloatArray,
    choice: IntArray,
    loads: IntArray,
    rounds: int,
    state: WordArray,
) -> float:
    """Search locally, again and again; changes ``choice`` and ``loads``, returns their potential.

    Parameters
    ----------
    start, helper, group, marginal, choice, loads
        As for ``settle``; every token has a choice.
    total : (N, Q) float64, J
        Cumulated ``marginal``.
    rounds : int
        Releases to try.
    state : (1,) uint64
        Seed of the random numbers, not zero; advanced.
    """
    tokens, helpers = choice.size, total.shape[0]
    order = np.arange(tokens)
    cost, distorted = costs_at(marginal, loads), np.zeros(helpers + 1)
    best = potential(total, loads)
    kept, kept_loads = choice.copy(), loads.copy()
    released = np.empty(max(_RELEASE_TO, tokens), np.int64)
    for _ in range(rounds):
        members = helper[choice[int(uniform(state) * tokens)]]
        shared = members[int(uniform(state) * members.size)]
        if shared == helpers:
            shared = members[0]
        wanted = _RELEASE_FROM + int(uniform(state) * (_RELEASE_TO - _RELEASE_FROM + 1))
        upheaval = uniform(state) < _UPHEAVAL
        if upheaval:
            wanted = max(wanted, int(uniform(state) * tokens * _UPHEAVAL_SHARE))
        first, found = int(uniform(state) * tokens), 0
        for offset in range(tokens):
            t = (first + offset) % tokens
            if upheaval or uses(helper[choice[t]], shared):
                move(helper[choice[t]], -1, marginal, loads, cost)
                released[found] = t
                found += 1
                if found == wanted:
                    break
        spread = _DISTORTION * uniform(state)
        for t in released[:found]:
            for n in range(helpers):
                distorted[n] = cost[n] * (1.0 + spread * uniform(state))
            choice[t] = _cheapest(helper, start[group[t]], start[group[t] + 1], distorted)[0]
            move(helper[choice[t]], 1, marginal, loads, cost)
        for _pass in range(_MOST_PASSES):
            if respond(start, helper, group, marginal, order, choice, loads, cost) == 0:
                break
        now = potential(total, loads)
        if now <= best:
            best = now
            _copy(kept, choice)
            _copy(kept_loads, loads)
        else:
            _copy(choice, kept)
            _copy(loads, kept_loads)
            cost = costs_at(marginal, loads)
    return best


@compiled
def cheapest_rows(start: IntArray, helper: IndexArray, cost: FloatArray) -> IntArray:
    """Row of each group's cheapest set at costs (N+1,), (G,)."""
    rows = np.empty(start.size - 1, np.int64)
    for g in range(rows.size):
        rows[g] = _cheapest(helper, start[g], start[g + 1], cost)[0]
    return rows
