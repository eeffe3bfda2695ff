r"""Closes a gap: an exact integer program over the sets and loads that a certificate leaves.

With prices :math:`\mu` of bound L and a plan of energy U, no plan better than U uses a set S with
:math:`\mu(S) - \min_{S'} \mu(S') > U - L`, nor a load q with
:math:`e_n(q) - \mu_n q - \min_{q'} (e_n(q') - \mu_n q') > U - L`. What is left is usually small.
It is solved by HiGHS in reduced costs, so that its objective is the excess over L and its
tolerances are relative to the gap, not to energies that span many powers of ten.
docs/explanation/theory.md, sections 2.2 and 2.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array, hstack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.policies.certificates.columns import Columns
    from siftmoe.coordinator.policies.certificates.dual import Certificate
    from siftmoe.coordinator.policies.loads.model import LoadModel

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: The gap is scaled to this, so HiGHS's absolute tolerance of 1e-6 is 1e-9 of the gap.
_GAP_UNITS = 1e3
#: Share of the gap that fixing leaves as a margin for rounding.
_MARGIN = 1e-6
#: HiGHS ends within this of its optimum, and how it says that there is none.
_ABSOLUTE_GAP, _IMPOSSIBLE = 1e-6, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """Result of the integer program.

    Parameters
    ----------
    choice : (M,) int64 or None
        Row of ``Columns.helper`` of each token; None if nothing better was found.
    bound : float
        Lower bound on the optimum.
    """

    choice: IntArray | None
    bound: float


def close_gap(
    columns: Columns,
    model: LoadModel,
    certificate: Certificate,
    *,
    upper: float,
    time_limit_s: float,
) -> Closing:
    """Search exactly for a plan better than ``upper``.

    Parameters
    ----------
    columns, model
        The problem.
    certificate : Certificate
        Prices (N,) and their bound.
    upper : float, J
        Energy of a known plan.
    time_limit_s : float, s
        After which the best bound so far is returned.
    """
    gap = upper - certificate.bound
    if gap <= 0.0:
        return Closing(choice=None, bound=certificate.bound)
    room, unit = gap * (1.0 + _MARGIN), gap / _GAP_UNITS
    reduced = _reduced_costs(columns, certificate.prices)
    rows = np.flatnonzero(reduced <= room)
    load = np.arange(model.energy.shape[1])
    excess = model.energy - certificate.prices[:, None] * load  # [N, T+1]
    excess -= excess.min(axis=1, keepdims=True)
    low = (excess <= room).argmax(axis=1)
    step_of, step = np.nonzero(excess[:, 1:] <= room)  # loads reached from one below
    inside = step >= low[step_of]
    step_of, step = step_of[inside], step[inside]
    use, member = _incidence(columns, rows, model.capacity.size)
    fill = _ones(step_of, np.arange(step_of.size), (low.size, step_of.size))
    found = milp(
        np.concatenate([reduced[rows], excess[step_of, step + 1] - excess[step_of, step]]) / unit,
        integrality=np.concatenate([np.ones(rows.size), np.zeros(step_of.size)]),
        bounds=Bounds(0, np.concatenate([_sizes(columns)[rows], np.ones(step_of.size)])),
        constraints=[
            LinearConstraint(_wide(member, step_of.size), columns.size, columns.size),
            LinearConstraint(hstack([use, -fill], format="csr"), low, low),
        ],
        options={"mip_rel_gap": 0.0, "time_limit": time_limit_s},
    )
    constant = float(excess[np.arange(low.size), low].sum())
    proven = -np.inf if found.mip_dual_bound is None else found.mip_dual_bound - _ABSOLUTE_GAP
    if found.status == _IMPOSSIBLE:  # rounding of a plan that is optimal already
        proven = np.inf
    bound = certificate.bound + constant + proven * unit
    return Closing(
        choice=_hand_out(columns, rows, found.x),
        bound=min(upper, max(certificate.bound, bound)),
    )


def least_overflow(
    columns: Columns, model: LoadModel, *, time_limit_s: float
) -> tuple[IntArray | None, float]:
    """Assign tokens so that capacities are exceeded least.

    Returns
    -------
    choice : (M,) int64 or None
        As in ``Closing``.
    proven : float
        Lower bound on the tokens in excess; above 0 no plan keeps all capacities.
    """
    rows = np.arange(columns.helper.shape[0])
    use, member = _incidence(columns, rows, model.capacity.size)
    helpers = model.capacity.size
    spare = -_ones(np.arange(helpers), np.arange(helpers), (helpers, helpers))
    found = milp(
        np.concatenate([np.zeros(rows.size), np.ones(helpers)]),
        integrality=np.concatenate([np.ones(rows.size), np.zeros(helpers)]),
        bounds=Bounds(0, np.concatenate([_sizes(columns), np.full(helpers, np.inf)])),
        constraints=[
            LinearConstraint(_wide(member, helpers), columns.size, columns.size),
            LinearConstraint(hstack([use, spare], format="csr"), -np.inf, model.capacity),
        ],
        options={"time_limit": time_limit_s},
    )
    proven = 0.0 if found.mip_dual_bound is None else float(found.mip_dual_bound)
    return _hand_out(columns, rows, found.x), proven


def _reduced_costs(columns: Columns, prices: FloatArray) -> FloatArray:
    """Price of each set above its group's cheapest, (C,)."""
    worth = np.append(prices, 0.0)[columns.helper].sum(axis=1)  # [C]
    least = np.minimum.reduceat(worth, columns.start[:-1])  # [G]
    reduced: FloatArray = worth - np.repeat(least, np.diff(columns.start))
    return reduced


def _sizes(columns: Columns) -> IntArray:
    """Tokens of each set's group, (C,)."""
    return np.repeat(columns.size, np.diff(columns.start))


def _incidence(columns: Columns, rows: IntArray, helpers: int) -> tuple[csr_array, csr_array]:
    """Which helpers a set uses, (N, rows), and which group it belongs to, (G, rows)."""
    group = np.repeat(np.arange(columns.size.size), np.diff(columns.start))[rows]
    members = columns.helper[rows].astype(np.int64)
    set_of, slot = np.nonzero(members < helpers)
    use = _ones(members[set_of, slot], set_of, (helpers, rows.size))
    return use, _ones(group, np.arange(rows.size), (columns.size.size, rows.size))


def _ones(row: IntArray, column: IntArray, shape: tuple[int, int]) -> csr_array:
    return csr_array(coo_array((np.ones(row.size), (row, column)), shape=shape))


def _wide(matrix: csr_array, more: int) -> csr_array:
    """Append columns of zeros."""
    return csr_array(hstack([matrix, csr_array((matrix.shape[0], more))]))


def _hand_out(columns: Columns, rows: IntArray, solution: FloatArray | None) -> IntArray | None:
    """Give each token of a group one of the sets that the solution uses for it."""
    if solution is None:
        return None
    times = np.rint(solution[: rows.size]).astype(np.int64)
    chosen = np.repeat(rows, times)  # by ascending row, hence by ascending group
    if chosen.size != columns.group.size:
        return None
    choice = np.empty(columns.group.size, dtype=np.int64)
    choice[np.argsort(columns.group, kind="stable")] = chosen
    return choice
