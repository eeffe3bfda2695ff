r"""Greedy placement: again and again the pair (helper, expert) that lowers the cost most.

Gains only fall as the placement grows (submodularity), so an old gain is an upper bound: pairs wait
in a heap by their last known gain, and only the one on top is evaluated again (Minoux's lazy
greedy, as in CELF by Leskovec et al., 2007).

What is proved of the gain :math:`C(\emptyset) - C(X)` against the best (Fisher, Nemhauser and
Wolsey, 1978): it is at least :math:`1/(p+1)` of it where the constraints are p matroids. Memory for
a number of experts on each helper is one (a partition matroid), a host for every expert another (it
bounds the replicas: the union of a partition and a uniform matroid), a limit of the hosts of an
expert a third. Where experts of different sizes make the memories knapsacks, the better of greedy
by gain and greedy by gain per byte is taken, as in CELF; with a host for every expert no factor is
known for it. `bound` says how far a placement can be from the best one in any case.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.placing.packing import Shelf, uniform_places

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.placing.problem import PlacementProblem

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]


class Gains:
    """Gains of adding a pair to a placement that grows.

    Parameters
    ----------
    problem : PlacementProblem
    hosts : (N, L, E) bool or None
        The placement to begin with; None: nothing is placed.
    """

    def __init__(self, problem: PlacementProblem, hosts: BoolArray | None = None) -> None:
        self._problem = problem
        if hosts is None:
            hosts = np.zeros((problem.num_helpers, *problem.slots.shape), dtype=bool)
        self._cost = problem.slot_costs_j(hosts)  # [S, L, E]
        self._weight = problem.slots / problem.num_states

    def all(self) -> FloatArray:
        """Gain of every pair, (N, L, E) J."""
        shape = (self._problem.num_helpers, *self._problem.slots.shape)
        found = np.empty(shape)
        for helper in range(shape[0]):
            for layer in range(shape[1]):
                found[helper, layer] = self._of(helper, layer, slice(0, shape[2]))
        return found

    def of(self, helper: int, layer: int, expert: int) -> float:
        """Gain of one pair, J."""
        return float(self._of(helper, layer, slice(expert, expert + 1))[0])

    def add(self, helper: int, layer: int, expert: int) -> None:
        """Add a pair to the placement."""
        served = self._served(helper, layer, slice(expert, expert + 1))[..., 0]
        self._cost[:, layer] = np.minimum(self._cost[:, layer], served)

    def _served(self, helper: int, layer: int, experts: slice) -> FloatArray:
        """Cost of every slot in every state if these experts there served it, (S, E, m)."""
        problem = self._problem
        served: FloatArray = (
            problem.link_j[:, helper, None, None] + problem.loss_j[layer, None, :, experts]
        )
        return served

    def _of(self, helper: int, layer: int, experts: slice) -> FloatArray:
        saved = self._cost[:, layer, :, None] - self._served(helper, layer, experts)  # [S, E, m]
        gain: FloatArray = self._weight[layer] @ np.maximum(saved, 0.0).sum(axis=0)
        return gain


def greedy_placement(problem: PlacementProblem) -> BoolArray:
    """Place experts greedily; with memories as knapsacks the better of two rules.

    Returns
    -------
    (N, L, E) bool
        Every expert has a host. No pair is placed that lowers the cost of no state, except to
        give an expert its host.

    Raises
    ------
    PlacementError
        If the experts do not fit.
    """
    found = _greedy(problem, per_byte=False)
    if uniform_places(problem) is not None:
        return found
    other = _greedy(problem, per_byte=True)
    return min(found, other, key=problem.cost_j)


def _greedy(problem: PlacementProblem, *, per_byte: bool) -> BoolArray:
    shelf, gains = Shelf(problem), Gains(problem)
    divisor = problem.num_bytes.astype(np.float64) if per_byte else np.ones(problem.slots.shape)
    first = gains.all() / divisor
    heap = [(-first[pair], pair) for pair in np.ndindex(first.shape)]
    heapq.heapify(heap)
    while heap:
        old, pair = heapq.heappop(heap)
        if not shelf.accepts(*pair):  # nor will it later
            continue
        now = gains.of(*pair) / divisor[pair[1:]]
        if heap and (-now, pair) > heap[0] and now < -old:
            heapq.heappush(heap, (-now, pair))
        elif now > 0.0 or not shelf.hosts[:, pair[1], pair[2]].any():
            shelf.put(*pair)
            gains.add(*pair)
    return shelf.hosts
