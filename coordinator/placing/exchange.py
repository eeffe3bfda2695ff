"""Local search: exchanges of placed experts that lower the cost, until none does.

Three moves: put an expert where there is room, replace a replica on a helper by another expert, and
swap two experts of two helpers. Every expert keeps a host throughout. Each move lowers the cost, so
this ends, and what is proved of the placement it begins with still holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.coordinator.compiled import compiled, plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.placing.problem import PlacementProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

#: Additions and comparisons that the search may take: some ten seconds.
_MOST_WORK: Final = 5e9
#: A move must lower the cost by this share of it: less is rounding.
_LEAST: Final = 1e-12


def exchanged(problem: PlacementProblem, hosts: BoolArray) -> BoolArray:
    """Improve a placement by exchanges.

    Parameters
    ----------
    problem : PlacementProblem
    hosts : (N, L, E) bool
        A placement that fits; it is not changed.

    Returns
    -------
    (N, L, E) bool
        Never dearer. Large problems end after a fixed amount of work, with what was found.
    """
    states, experts = problem.num_states, problem.num_experts
    work = states * experts * (problem.num_helpers + experts)  # of the cost of one layer
    found = plain(hosts.copy(), np.bool_)
    _search(
        found,
        plain(found.sum(axis=0), np.int64),
        plain(problem.capacity_bytes - problem.used_bytes(found), np.int64),
        plain(problem.num_bytes, np.int64),
        problem.most_hosts,
        plain(problem.slots / states, np.float64),
        plain(problem.loss_j, np.float64),
        plain(problem.link_j, np.float64),
        plain(problem.unserved_j(), np.float64),
        int(_MOST_WORK / work),
    )
    return found


@compiled
def _layer_cost(
    hosts: BoolArray,
    layer: int,
    weight: FloatArray,
    loss: FloatArray,
    link: FloatArray,
    base: FloatArray,
) -> float:
    """Cost of one layer."""
    helpers, _, experts = hosts.shape
    total = 0.0
    reach = np.empty(experts)
    for s in range(link.shape[0]):
        reach[:] = np.inf
        for n in range(helpers):
            for j in range(experts):
                if hosts[n, layer, j] and link[s, n] < reach[j]:
                    reach[j] = link[s, n]
        for i in range(experts):
            best = base[layer, i]
            for j in range(experts):
                if reach[j] + loss[layer, i, j] < best:
                    best = reach[j] + loss[layer, i, j]
            total += weight[layer, i] * best
    return total


@compiled
def _toggle(
    hosts: BoolArray, count: IntArray, room: IntArray, size: IntArray, n: int, layer: int, e: int
) -> None:
    """Put an expert on a helper, or take it away."""
    sign = -1 if hosts[n, layer, e] else 1
    hosts[n, layer, e] = sign > 0
    count[layer, e] += sign
    room[n] -= sign * size[layer, e]


@compiled
def _move(
    hosts: BoolArray,
    count: IntArray,
    room: IntArray,
    size: IntArray,
    n: int,
    la: int,
    ea: int,
    m: int,
    lb: int,
    eb: int,
) -> None:
    """Make the move of a pair of places; the same move again takes it back."""
    _toggle(hosts, count, room, size, n, la, ea)
    if (n, la, ea) == (m, lb, eb):
        return
    _toggle(hosts, count, room, size, n, lb, eb)
    if n != m:
        _toggle(hosts, count, room, size, m, la, ea)
        _toggle(hosts, count, room, size, m, lb, eb)


@compiled
def _possible(
    hosts: BoolArray,
    count: IntArray,
    room: IntArray,
    size: IntArray,
    most_hosts: int,
    n: int,
    la: int,
    ea: int,
    m: int,
    lb: int,
    eb: int,
) -> bool:
    """Whether a pair of places is a move, and what it puts there fits."""
    if (n, la, ea) == (m, lb, eb):
        free = not hosts[n, la, ea] and count[la, ea] < most_hosts
        return bool(free and size[la, ea] <= room[n])
    if not hosts[n, la, ea] or hosts[n, lb, eb]:
        return False
    more = size[lb, eb] - size[la, ea]
    if n == m:
        return bool(count[la, ea] > 1 and count[lb, eb] < most_hosts and more <= room[n])
    swap = hosts[m, lb, eb] and not hosts[m, la, ea]
    return bool(swap and -room[m] <= more <= room[n])


@compiled
def _search(
    hosts: BoolArray,
    count: IntArray,
    room: IntArray,
    size: IntArray,
    most_hosts: int,
    weight: FloatArray,
    loss: FloatArray,
    link: FloatArray,
    base: FloatArray,
    most_costs: int,
) -> int:
    """Make moves until none lowers the cost, or so many costs were computed; return the moves."""
    helpers, layers, experts = hosts.shape
    costs = np.array([_layer_cost(hosts, at, weight, loss, link, base) for at in range(layers)])
    least = _LEAST * costs.sum()
    moves, before, asked = 0, -1, 0
    while moves != before:
        before = moves
        for n in range(helpers):
            for a in range(layers * experts):
                la, ea = a // experts, a % experts
                for m in range(helpers):
                    for b in range(layers * experts):
                        lb, eb = b // experts, b % experts
                        if not _possible(
                            hosts, count, room, size, most_hosts, n, la, ea, m, lb, eb
                        ):
                            continue
                        if asked >= most_costs:
                            return moves
                        asked += 1 if la == lb else 2
                        _move(hosts, count, room, size, n, la, ea, m, lb, eb)
                        new_a = _layer_cost(hosts, la, weight, loss, link, base)
                        new_b = 0.0
                        if la != lb:
                            new_b = _layer_cost(hosts, lb, weight, loss, link, base)
                        old = costs[la] + (costs[lb] if la != lb else 0.0)
                        if new_a + new_b < old - least:
                            costs[la] = new_a
                            if la != lb:
                                costs[lb] = new_b
                            moves += 1
                        else:
                            _move(hosts, count, room, size, n, la, ea, m, lb, eb)
    return moves
