r"""Loads of the ways: marginal costs, and changes when a token leaves or enters.

The cost of a way is the energy that one more token adds to its resources,
:math:`\sum_r e_r(q_r + u_{h,r}) - e_r(q_r)`. ``total`` is (R, Q+1), ``loads`` (R,) the units that
each resource has, ``resource`` and ``units`` (H, D) a way's, ``group`` (H,) the group of ways that
draw on the same resources, ``begin`` (G+1,) the first way of each group, ``cost`` (H,) a way's
price now, ``members`` the ways of a token; a member below 0 is padding.
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
def step_cost(
    total: FloatArray, resource: IntArray, units: IntArray, loads: IntArray, h: int
) -> float:
    """Energy of one more token by way h; infinite beyond the table."""
    price = 0.0
    for j in range(resource.shape[1]):
        r = resource[h, j]
        after = loads[r] + units[h, j]
        if after >= total.shape[1]:
            return np.inf
        price += total[r, after] - total[r, loads[r]]
    return price


@compiled
def shift(resource: IntArray, units: IntArray, loads: IntArray, h: int, sign: int) -> None:
    """Add a token by way h (sign 1), or take it away (-1)."""
    for j in range(resource.shape[1]):
        loads[resource[h, j]] += sign * units[h, j]


@compiled
def current_costs(
    total: FloatArray, resource: IntArray, units: IntArray, loads: IntArray
) -> FloatArray:
    """Price of one more token by every way, (H,)."""
    cost = np.empty(len(resource))
    for h in range(cost.size):
        cost[h] = step_cost(total, resource, units, loads, h)
    return cost


@compiled
def leave(
    members: IntArray,
    total: FloatArray,
    resource: IntArray,
    units: IntArray,
    group: IntArray,
    begin: IntArray,
    loads: IntArray,
    cost: FloatArray,
) -> float:
    """Remove a token; returns the cost of adding it again."""
    price = 0.0
    for h in members:
        if h >= 0:
            shift(resource, units, loads, h, -1)
            for k in range(begin[group[h]], begin[group[h] + 1]):
                cost[k] = step_cost(total, resource, units, loads, k)
            price += cost[h]
    return price


@compiled
def enter(
    members: IntArray,
    total: FloatArray,
    resource: IntArray,
    units: IntArray,
    group: IntArray,
    begin: IntArray,
    loads: IntArray,
    cost: FloatArray,
) -> None:
    """Add a token."""
    for h in members:
        if h >= 0:
            shift(resource, units, loads, h, 1)
            for k in range(begin[group[h]], begin[group[h] + 1]):
                cost[k] = step_cost(total, resource, units, loads, k)


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
