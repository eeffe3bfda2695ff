r"""Unicast by time division: every helper is sent its tokens apart, all in one band.

At prices :math:`\nu_u, \nu_d` on the airtime of either window a way to a helper costs the same for
every token, so tokens are solved exactly and apart, and

.. math:: L(\nu_u, \nu_d) = \sum_t \min_S \{c(S; \nu_u, \nu_d) + \lambda D_t(S)\}
          - w_u \nu_u T_u - w_d \nu_d T_d

bounds from below. The prices that the chosen loads themselves make are tried next; where they are
the same, the choice is optimal. Own derivation: docs/explanation/theory.md, section 9.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.coordinator.policies.broadcast.accounts import Account, account
from siftmoe.coordinator.policies.token.cover import cover_batch
from siftmoe.coordinator.policies.token.price import price_batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.energy.medium import Medium
    from siftmoe.coordinator.policies.loads.tables import HelperTables
    from siftmoe.coordinator.selection.problem import SelectionProblem

    FloatArray = NDArray[np.float64]

#: Pairs of prices that are tried, and after how many of them steps are halved.
_MOST_ROUNDS: Final = 24
_UNDAMPED: Final = 4
#: A plan within this share of its bound ends the search.
_CLOSE: Final = 1e-9


def divided(
    problem: SelectionProblem, tables: HelperTables, medium: Medium, *, cap: FloatArray | None
) -> tuple[Account, float]:
    """Choose sets, and bound their objective from below.

    Parameters
    ----------
    problem, tables, medium
        As of ``select_in_band``.
    cap : (T,) float64 or None
        Largest deviation of every token; None: the problem's budget is a price.
    """
    up_w, down_w = medium.usual_prices(problem.num_tokens)
    best, bound = None, -math.inf
    for attempt in range(_MOST_ROUNDS):
        cost = np.ascontiguousarray(medium.linear_costs(up_w, down_w).reshape(-1))
        batch = (problem.routed_experts, problem.slot_weights(), tables.served, tables.base, cost)
        if cap is None:
            sets, value = price_batch(*batch, problem.budget.value)
        else:
            sets, value = cover_batch(*batch, cap)
        bound = max(bound, float(value.sum()) - _rent(medium, up_w, down_w))
        now = account(problem, tables, medium, sets)
        if best is None or now.objective(problem) < best.objective(problem):
            best = now
        least = best.objective(problem)
        if least - bound <= _CLOSE * abs(least):
            break
        share = 1.0 if attempt < _UNDAMPED else 0.5
        up_w, down_w = _towards(up_w, now.up_w, share), _towards(down_w, now.down_w, share)
    if best is None:
        raise ValueError("no prices of airtime were tried")
    return best, bound


def _rent(medium: Medium, up_w: float, down_w: float) -> float:
    """Price of both windows, J."""
    rent = medium.up.price * up_w * medium.up.window_s
    if medium.down is not None:
        rent += medium.down.price * down_w * medium.down.window_s
    return rent


def _towards(tried: float, made: float, share: float) -> float:
    """Go a share of the way, by ratio, from a price to that which its loads made."""
    if math.isinf(made):
        return 4.0 * tried if tried > 0.0 else 1.0
    if made <= 0.0 or tried <= 0.0:
        return (1.0 - share) * tried + share * made
    return math.exp((1.0 - share) * math.log(tried) + share * math.log(made))
