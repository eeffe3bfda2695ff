r"""Closes the gap of options that share a window: enumeration within reduced costs.

At any price :math:`\nu_k` on airtime a choice o costs at least :math:`L_k + \sum_t r^k_{t,o_t}`,
with :math:`L_k` the bound there and :math:`r^k_{t,o} \ge 0` an option's cost above its token's
cheapest. So an option is of use only if :math:`L_k + r^k_{t,o}` is below the best objective known,
for every k. What is left, a few options of a few tokens, is enumerated depth first under the same
bounds; every leaf is a window divided exactly. Own derivation: docs/explanation/theory.md,
section 9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.coordinator.compiled import compiled, compiled_over
from siftmoe.coordinator.energy import window
from siftmoe.coordinator.energy.window import window_energy
from siftmoe.coordinator.policies.broadcast.options import option_costs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from siftmoe.coordinator.energy.one_band import OneBand
    from siftmoe.coordinator.policies.broadcast.options import Options

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Nodes after which the search gives up the proof: some 50 ms, most of them leaves.
MOST_NODES: Final = 20_000
#: What is better by less than this share is not looked for.
_CLOSE: Final = 1e-11


def close_gap(
    options: Options, band: OneBand, choice: IntArray, objective: float, prices: Sequence[float]
) -> tuple[IntArray, float, bool]:
    """Improve a choice until it is proved to be the best one.

    Parameters
    ----------
    options : Options
    band : OneBand
    choice : (T,) int64
    objective : float, J
        Of the choice.
    prices : sequence of float, W
        At which bounds are used.

    Returns
    -------
    choice : (T,) int64
    objective : float, J
    proved : bool
        False where the search was given up.
    """
    costs = np.array([option_costs(options, band, price)[0] for price in prices])  # [P, O]
    cheapest = _cheapest_of_each(options.value, costs)  # [P, T]
    bound = cheapest.sum(axis=1) - band.price * band.window_s * np.array(prices)  # [P]
    room = objective * (1.0 - _CLOSE) - bound
    count, allowed = _allowed(options.value, costs, cheapest, room)
    if not np.all(count):  # no option of some token can be better
        return choice, objective, True
    several = np.flatnonzero(count > 1)
    single = np.flatnonzero(count == 1)
    fixed = choice.copy()
    fixed[single] = allowed[single, 0]
    alone = options.value[single, fixed[single]]
    best, value, nodes = _enumerate(
        allowed[several],
        count[several],
        options.value[several],
        costs,
        cheapest[:, several],
        bound + (alone + costs[:, fixed[single]] - cheapest[:, single]).sum(axis=1),
        float(alone.sum()),
        options.link,
        options.bits / band.bandwidth_hz,
        options.payload(fixed[single], band.noise_w.size) / band.bandwidth_hz,
        band.noise_w,
        band.circuit_w,
        band.limit,
        band.window_s,
        band.price,
        objective,
    )
    proved = nodes < MOST_NODES
    if value < objective:
        fixed[several] = best
        return fixed, options.objective(fixed, band), proved
    return choice, objective, proved


@compiled
def _cheapest_of_each(value: FloatArray, costs: FloatArray) -> FloatArray:
    """Least cost of every token at every price, (P, T)."""
    prices, (tokens, options) = costs.shape[0], value.shape
    cheapest = np.full((prices, tokens), np.inf)
    for t in range(tokens):
        for k in range(prices):
            for o in range(options):
                cheapest[k, t] = min(cheapest[k, t], value[t, o] + costs[k, o])
    return cheapest


@compiled
def _allowed(
    value: FloatArray, costs: FloatArray, cheapest: FloatArray, room: FloatArray
) -> tuple[IntArray, IntArray]:
    """Count every token's options that no bound cuts off, (T,), and list them, (T, O)."""
    tokens, options = value.shape
    count = np.zeros(tokens, np.int64)
    allowed = np.zeros((tokens, options), np.int64)
    for t in range(tokens):
        for o in range(options):
            good = True
            for k in range(room.size):
                good = good and value[t, o] + costs[k, o] - cheapest[k, t] < room[k]
            if good:
                allowed[t, count[t]] = o
                count[t] += 1
    return count, allowed


@compiled_over(window)
def _enumerate(
    allowed: IntArray,
    count: IntArray,
    value: FloatArray,
    costs: FloatArray,
    cheapest: FloatArray,
    bound: FloatArray,
    spent: float,
    link: IntArray,
    hertz_s: FloatArray,
    load: FloatArray,
    noise_w: FloatArray,
    circuit_w: FloatArray,
    limit: FloatArray,
    window_s: float,
    price: float,
    objective: float,
) -> tuple[IntArray, float, int]:
    """Depth-first search over some tokens' options; the best, its objective, and nodes visited.

    ``bound``, ``spent`` and ``load`` are those of the other tokens.
    """
    tokens, prices = count.size, bound.size
    bounds, spents = np.zeros((tokens + 1, prices)), np.zeros(tokens + 1)
    loads = np.zeros((tokens + 1, load.size))
    bounds[0], spents[0], loads[0] = bound, spent, load
    following = np.zeros(tokens + 1, np.int64)
    best, least = np.zeros(tokens, np.int64), objective
    depth, nodes = 0, 0
    while depth >= 0 and nodes < MOST_NODES:
        if depth == tokens:
            total = window_energy(loads[depth], noise_w, circuit_w, limit, window_s)
            if spents[depth] + price * total < least:
                least = spents[depth] + price * total
                for t in range(tokens):
                    best[t] = allowed[t, following[t] - 1]
            depth -= 1
            continue
        if following[depth] == count[depth]:
            following[depth] = 0
            depth -= 1
            continue
        o = allowed[depth, following[depth]]
        following[depth] += 1
        nodes += 1
        worth = True
        for k in range(prices):
            above = value[depth, o] + costs[k, o] - cheapest[k, depth]
            bounds[depth + 1, k] = bounds[depth, k] + above
            worth = worth and bounds[depth + 1, k] < least * (1.0 - _CLOSE)
        if worth:
            spents[depth + 1] = spents[depth] + value[depth, o]
            loads[depth + 1] = loads[depth]
            loads[depth + 1, link[o]] += hertz_s[o]
            depth += 1
    return best, least, nodes
