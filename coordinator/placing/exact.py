r"""The placement problem as an integer program, and its relaxation, by HiGHS.

With x for "helper n hosts expert j of layer l" and y for "a slot of expert i is served by it in
state s":

.. math:: \min \sum_{c} p_c \Big(b_c + \sum_o (c_o - b_c)\, y_{co}\Big)
          \quad\text{s.t.}\quad \sum_o y_{co} \le 1,\; y_{co} \le x_o,\;
          \sum_{l,j} m_{lj} x_{nlj} \le M_n,\; 1 \le \sum_n x_{nlj} \le r

Only options that cost less than to leave the slot unserved are in it. With x whole the best y is
whole too, so x alone is integer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array, hstack, vstack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.placing.problem import PlacementProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

#: HiGHS ends within this of its optimum, in units in which the cost without hosts is `_UNITS`.
_ABSOLUTE_GAP, _UNITS = 1e-6, 1e4


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """What the program found.

    Parameters
    ----------
    hosts : (N, L, E) bool or None
        The best placement that it found; None for the relaxation, or in too short a time.
    bound_j : float, J
        No placement costs less.
    """

    hosts: BoolArray | None
    bound_j: float


@dataclass(frozen=True, slots=True)
class _Options:
    """Options of all clients, one client for each state, layer and expert: parallel arrays."""

    client: IntArray
    place: IntArray
    saved_j: FloatArray


def num_options(problem: PlacementProblem) -> int:
    """Variables y of the program, which set its size."""
    return len(_options(problem).client)


def solve_placement(
    problem: PlacementProblem, *, relaxed: bool = False, time_limit_s: float = 20.0
) -> Solved:
    """Solve the integer program, or its relaxation.

    Parameters
    ----------
    problem : PlacementProblem
    relaxed : bool
        Bound alone: x between 0 and 1.
    time_limit_s : float, s
        The bound found until then holds; 0 if there is none.
    """
    options = _options(problem)
    places, served = problem.num_helpers * problem.slots.size, len(options.client)
    scale = float((problem.slots * problem.unserved_j()).sum()) / _UNITS
    weight = np.tile(problem.slots.reshape(-1), problem.num_states) / problem.num_states
    gain = weight[options.client] * options.saved_j / scale
    found = milp(
        np.concatenate([np.zeros(places), -gain]),
        integrality=np.concatenate([np.full(places, not relaxed), np.zeros(served)]),
        bounds=Bounds(0.0, 1.0),
        constraints=[*_memories(problem, served), *_serving(options, places)],
        options={"mip_rel_gap": 0.0, "time_limit": time_limit_s},
    )
    proven = found.mip_dual_bound if not relaxed else (found.fun if found.status == 0 else None)
    bound = 0.0 if proven is None else scale * (_UNITS + float(proven) - _ABSOLUTE_GAP)
    hosts = None
    if not relaxed and found.x is not None:
        hosts = found.x[:places].reshape(problem.num_helpers, *problem.slots.shape) > 0.5
    return Solved(hosts=hosts, bound_j=max(0.0, bound))


def _options(problem: PlacementProblem) -> _Options:
    """List what serves a slot for less than it costs unserved."""
    states, (layers, experts) = problem.num_states, problem.slots.shape
    base = problem.unserved_j()
    client, place, saved = [], [], []
    for layer in range(layers):
        cost = (
            problem.link_j[:, None, :, None] + problem.loss_j[layer, None, :, None, :-1]
        )  # [S, E, N, E]
        gain = base[layer, None, :, None, None] - cost
        gain[:, problem.slots[layer] <= 0.0] = 0.0
        s, i, n, j = np.nonzero(gain > 0.0)
        client.append((s * layers + layer) * experts + i)
        place.append((n * layers + layer) * experts + j)
        saved.append(gain[s, i, n, j])
    del states
    return _Options(np.concatenate(client), np.concatenate(place), np.concatenate(saved))


def _memories(problem: PlacementProblem, served: int) -> list[LinearConstraint]:
    """Memory of each helper, and hosts of each expert."""
    helpers, sizes = problem.num_helpers, problem.num_bytes.reshape(-1)
    each = np.arange(helpers * sizes.size)
    unit = float(sizes.max())
    memory = _sparse(np.tile(sizes / unit, helpers), each // sizes.size, each, helpers)
    hosts = _sparse(np.ones(each.size), each % sizes.size, each, sizes.size)
    # half of the smallest unit of memory: a byte, which rounding of the quotients cannot reach
    limit = (problem.capacity_bytes + 0.5) / unit
    return [
        LinearConstraint(_wide(memory, served), -np.inf, limit),
        LinearConstraint(_wide(hosts, served), 1.0, float(problem.most_hosts)),
    ]


def _serving(options: _Options, places: int) -> list[LinearConstraint]:
    """Each slot is served once, and by what is hosted."""
    count = len(options.client)
    if not count:
        return []
    each = np.arange(count)
    _, client = np.unique(options.client, return_inverse=True)
    once = _sparse(np.ones(count), client, places + each, int(client.max()) + 1, places + count)
    hosted = _sparse(
        np.concatenate([np.ones(count), -np.ones(count)]),
        np.concatenate([each, each]),
        np.concatenate([places + each, options.place]),
        count,
        places + count,
    )
    return [LinearConstraint(vstack([once, hosted], format="csr"), -np.inf, _limits(once, count))]


def _limits(once: csr_array, count: int) -> FloatArray:
    return np.concatenate([np.ones(once.shape[0]), np.zeros(count)])


def _sparse(
    value: FloatArray, row: IntArray, column: IntArray, rows: int, columns: int | None = None
) -> csr_array:
    width = len(column) if columns is None else columns
    return csr_array(coo_array((value, (row, column)), shape=(rows, width)))


def _wide(matrix: csr_array, more: int) -> csr_array:
    return csr_array(hstack([matrix, csr_array((matrix.shape[0], more))]))
