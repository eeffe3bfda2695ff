r"""Removes ways that no optimal plan needs, before a search.

Where the widths of both directions are chosen a helper has B V ways, most of which are of no use: a
way h is dominated by another one k to the same helper if k deviates no more for any expert that a
token is routed to, and costs no more at any loads. Exchanging h for k in a plan then never makes it
worse, so plans and lower bounds stay what they are.

For tokens that do not influence each other the costs are known. Otherwise k costs no more than h if

.. math:: \sum_r \max\big((u_{k,r} - u_{h,r})\,p_r : p_r \in [\underline p_r, \overline p_r]\big)
          \le 0

with :math:`\underline p_r, \overline p_r` the least and the largest energy of a unit on resource r:
its first, and its last that all tokens together can reach; infinite where a capacity may bind. Our
derivation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.policies.loads.model import LoadModel
    from siftmoe.coordinator.policies.loads.tables import HelperTables
    from siftmoe.coordinator.selection.problem import SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]


def without_dominated(
    problem: SelectionProblem, tables: HelperTables, model: LoadModel
) -> tuple[HelperTables, LoadModel]:
    """Tables and model of the ways that are not dominated; the same where there is one width.

    Parameters
    ----------
    problem, tables, model
        The problem, ``build_tables(problem)`` and ``model_loads(problem)``.
    """
    precision = problem.precision
    if precision is None or model.num_ways == problem.num_helpers:
        return tables, model
    experts = np.flatnonzero(np.bincount(problem.routed_experts.ravel(), minlength=1))
    served = np.ascontiguousarray(tables.served[experts].T)  # [H, experts that occur]
    begin = np.arange(problem.num_helpers + 1) * (model.num_ways // max(1, problem.num_helpers))
    if model.independent:
        kept = _cheaper(served, model.first, begin)
    else:
        low, high = _slopes(model, problem.num_tokens)
        kept = _cheaper_at_any_load(served, model.resource, model.units, low, high, begin)
    ways = np.flatnonzero(kept)
    return tables.only(ways), model.only(ways)


def _slopes(model: LoadModel, tokens: int) -> tuple[FloatArray, FloatArray]:
    """Least and largest energy of a unit of each resource, (R,) each."""
    largest = np.zeros(model.capacity.size, dtype=np.int64)
    np.maximum.at(largest, model.resource, model.units)
    last = np.minimum(tokens * largest, model.energy.shape[1] - 1)
    at = np.arange(last.size)
    fits = (model.capacity >= last) & (last > 0)
    high = np.where(fits, model.marginal[at, np.maximum(last - 1, 0)], np.inf)
    return np.where(model.capacity > 0, model.marginal[:, 0], 0.0), high


@compiled
def _deviates_no_more(served: FloatArray, k: int, h: int) -> bool:
    """Whether way k deviates no more than h for any expert."""
    no_more = True
    for e in range(served.shape[1]):
        no_more = no_more and served[k, e] <= served[h, e]
    return no_more


@compiled
def _cheaper(served: FloatArray, cost: FloatArray, begin: IntArray) -> BoolArray:
    """Mark the ways (H,) that no other way to the helper beats at known costs (H,)."""
    kept = cost < np.inf
    for n in range(begin.size - 1):
        for h in range(begin[n], begin[n + 1]):
            for k in range(begin[n], begin[n + 1]):
                if not kept[h]:
                    break
                # of equals the first stays
                if k == h or not kept[k] or cost[k] > cost[h]:
                    continue
                if _deviates_no_more(served, k, h):
                    equal = cost[k] == cost[h] and _deviates_no_more(served, h, k)
                    kept[h] = equal and h < k
    return kept


@compiled
def _cheaper_at_any_load(
    served: FloatArray,
    resource: IntArray,
    units: IntArray,
    low: FloatArray,
    high: FloatArray,
    begin: IntArray,
) -> BoolArray:
    """Mark the ways (H,) that no other way to the helper beats at all loads."""
    kept = np.ones(len(units), np.bool_)
    for n in range(begin.size - 1):
        for h in range(begin[n], begin[n + 1]):
            for k in range(begin[n], begin[n + 1]):
                if not kept[h]:
                    break
                if k == h or not kept[k]:
                    continue
                more, same = 0.0, True
                for j in range(units.shape[1]):
                    change = units[k, j] - units[h, j]
                    same = same and change == 0
                    if change > 0:
                        more += change * high[resource[h, j]]
                    elif change < 0:
                        more += change * low[resource[h, j]]
                if more <= 0.0 and _deviates_no_more(served, k, h):
                    kept[h] = same and _deviates_no_more(served, h, k) and h < k
    return kept
