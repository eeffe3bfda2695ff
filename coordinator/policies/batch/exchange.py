r"""Exchanges of two tokens at a full helper, where best response of single tokens is stuck.

A full helper n costs every token that is not on it more than the capacity is worth, so no token
enters; and a token on it leaves for nothing, though its place may be worth more to another. A token
t that enters with row b while a token s leaves for row c changes the energy by

.. math:: \sum_{m \in b \setminus n} c_m - c(S_t) + \sum_{m \in c} c_m - c(S_s \setminus n)

at the marginal energies around the loads; n keeps its load. The best t and the best s of each full
helper change places as long as that lowers the energy. Our derivation; docs/explanation/theory.md,
section 2.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled_over
from siftmoe.coordinator.policies.batch import search
from siftmoe.coordinator.policies.batch.search import costs_at, move, potential, uses

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    IndexArray = NDArray[np.int32]

_over_search = compiled_over(search)


@_over_search
def _without(members: IndexArray, n: int, cost: FloatArray) -> float:
    """Cost of the members but n."""
    price = 0.0
    for m in members:
        if m != n:
            price += cost[m]
    return price


@_over_search
def _best_change(
    start: IntArray,
    helper: IndexArray,
    group: IntArray,
    marginal: FloatArray,
    n: int,
    enters: bool,
    choice: IntArray,
    loads: IntArray,
    cost: FloatArray,
) -> tuple[int, int, float]:
    """Token, row and change of energy of the best one to enter helper n, or to leave it."""
    token, row, least = -1, -1, np.inf
    for t in range(choice.size):
        now = choice[t]
        if uses(helper[now], n) == enters:
            continue
        move(helper[now], -1, marginal, loads, cost)
        back = _without(helper[now], n, cost)
        for k in range(start[group[t]], start[group[t] + 1]):
            if uses(helper[k], n) == enters:
                change = _without(helper[k], n, cost) - back
                if change < least:
                    token, row, least = t, k, change
        move(helper[now], 1, marginal, loads, cost)
    return token, row, least


@_over_search
def exchange(
    start: IntArray,
    helper: IndexArray,
    group: IntArray,
    marginal: FloatArray,
    total: FloatArray,
    capacity: IntArray,
    choice: IntArray,
    loads: IntArray,
) -> int:
    """Exchange tokens at full helpers; changes ``choice`` and ``loads``, returns the exchanges.

    Arguments as of ``shake``; ``capacity`` (N,) are the largest loads.
    """
    made = 0
    cost = costs_at(marginal, loads)
    best = potential(total, loads)
    for n in range(capacity.size):
        for _ in range(choice.size):
            if capacity[n] == 0 or loads[n] < capacity[n]:
                break
            t, b, gain = _best_change(start, helper, group, marginal, n, True, choice, loads, cost)
            s, c, loss = _best_change(start, helper, group, marginal, n, False, choice, loads, cost)
            if t < 0 or s < 0 or not gain + loss < 0.0:
                break
            old_t, old_s = choice[t], choice[s]
            move(helper[old_s], -1, marginal, loads, cost)
            move(helper[c], 1, marginal, loads, cost)
            move(helper[old_t], -1, marginal, loads, cost)
            move(helper[b], 1, marginal, loads, cost)
            choice[t], choice[s] = b, c
            now = potential(total, loads)
            if not now < best * (1.0 - 1e-12):
                move(helper[b], -1, marginal, loads, cost)
                move(helper[old_t], 1, marginal, loads, cost)
                move(helper[c], -1, marginal, loads, cost)
                move(helper[old_s], 1, marginal, loads, cost)
                choice[t], choice[s] = old_t, old_s
                break
            best = now
            made += 1
    return made
