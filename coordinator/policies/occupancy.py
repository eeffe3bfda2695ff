"""Tokens on helpers: what a place costs now, and what happens when a token leaves or enters.

A helper asks the marginal energy of one more token, :math:`e_n(q_n + 1) - e_n(q_n)`. ``marginal``
is (N, Q), ``loads`` (N,) the tokens that each helper has, ``cost`` (N,) its price now, ``members``
the helpers of a token; a member below 0 is padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.policies.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    WordArray = NDArray[np.uint64]


@compiled
def current_costs(marginal: FloatArray, loads: IntArray) -> FloatArray:
    """Price of one more token on every helper, (N,)."""
    cost = np.empty(loads.size)
    for n in range(loads.size):
        cost[n] = marginal[n, loads[n]]
    return cost


@compiled
def leave(members: IntArray, marginal: FloatArray, loads: IntArray, cost: FloatArray) -> float:
    """Take a token away; returns what it would pay to come back."""
    total = 0.0
    for n in members:
        if n >= 0:
            loads[n] -= 1
            cost[n] = marginal[n, loads[n]]
            total += cost[n]
    return total


@compiled
def enter(members: IntArray, marginal: FloatArray, loads: IntArray, cost: FloatArray) -> None:
    """Add a token."""
    for n in members:
        if n >= 0:
            loads[n] += 1
            cost[n] = marginal[n, loads[n]]


@compiled
def uniform(state: WordArray) -> float:
    """Random number in [0, 1) by xorshift64*; advances ``state`` (1,), which must not be zero."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    number: float = ((x * np.uint64(0x2545F4914F6CDD1D)) >> np.uint64(11)) * 2.0**-53
    return number
