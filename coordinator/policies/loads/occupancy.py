"""Loads of the ways: marginal costs, and changes when a token leaves or enters.

The cost of a way is the energy that one more token adds to its resource,
:math:`e_r(q_r + u_h) - e_r(q_r)`. ``total`` is (R, Q+1), ``loads`` (R,) the units that each
resource has, ``resource`` and ``units`` (H,) a way's, ``begin`` (R+1,) the first way of each
resource, ``cost`` (H,) a way's price now, ``members`` the ways of a token; a member below 0 is
padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    WordArray = NDArray[np.uint64]


@compiled
def step_cost(total: FloatArray, r: int, units: int, load: int) -> float:
    """Energy that ``units`` more add to a resource; infinite beyond its table."""
    if load + units >= total.shape[1]:
        return np.inf
    step: float = total[r, load + units] - total[r, load]
    return step


@compiled
def current_costs(
    total: FloatArray, resource: IntArray, units: IntArray, loads: IntArray
) -> FloatArray:
    """Price of one more token by every way, (H,)."""
    cost = np.empty(resource.size)
    for h in range(resource.size):
        cost[h] = step_cost(total, resource[h], units[h], loads[resource[h]])
    return cost


@compiled
def leave(
    members: IntArray,
    total: FloatArray,
    resource: IntArray,
    units: IntArray,
    begin: IntArray,
    loads: IntArray,
    cost: FloatArray,
) -> float:
    """Remove a token; returns the cost of adding it again."""
    price = 0.0
    for h in members:
        if h >= 0:
            r = resource[h]
            loads[r] -= units[h]
            for k in range(begin[r], begin[r + 1]):
                cost[k] = step_cost(total, r, units[k], loads[r])
            price += cost[h]
    return price


@compiled
def enter(
    members: IntArray,
    total: FloatArray,
    resource: IntArray,
    units: IntArray,
    begin: IntArray,
    loads: IntArray,
    cost: FloatArray,
) -> None:
    """Add a token."""
    for h in members:
        if h >= 0:
            r = resource[h]
            loads[r] += units[h]
            for k in range(begin[r], begin[r + 1]):
                cost[k] = step_cost(total, r, units[k], loads[r])


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
