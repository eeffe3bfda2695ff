r"""Lower bound on the cost of any placement, from the gains that are left to a given one.

By submodularity, for any placement Y (Leskovec et al., 2007, for one knapsack):

.. math:: C(Y) \ge C(X \cup Y) \ge C(X) - \sum_n \max_{Y_n} \sum_{e \in Y_n} \Delta(n, e \mid X)

where :math:`Y_n` fits into the memory of helper n, its last expert in part. Cheap at any size, and
looser than the relaxation of `exact`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.placing.greedy import Gains

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.placing.problem import PlacementProblem

    BoolArray = NDArray[np.bool_]


def greedy_bound(problem: PlacementProblem, hosts: BoolArray) -> float:
    """Lower bound on the cost of a token under any placement, J.

    Parameters
    ----------
    problem : PlacementProblem
    hosts : (N, L, E) bool
        A good placement; the better it is, the tighter the bound.
    """
    left = Gains(problem, hosts).all()
    size = problem.num_bytes.reshape(-1).astype(np.float64)  # [L*E]
    most = sum(
        _fractional(left[helper].reshape(-1), size, float(problem.capacity_bytes[helper]))
        for helper in range(problem.num_helpers)
    )
    return max(0.0, problem.cost_j(hosts) - most)


def _fractional(gain: NDArray[np.float64], size: NDArray[np.float64], capacity: float) -> float:
    """Largest gain of experts that fit into a memory, the last one in part."""
    order = np.argsort(-gain / size, kind="stable")
    filled = np.cumsum(size[order])
    part = np.clip(1.0 - (filled - capacity) / size[order], 0.0, 1.0)
    return float((gain[order] * part).sum())
