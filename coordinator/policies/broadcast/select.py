r"""Selection in one band: what every token is sent as, and who answers.

With answers that have no price the options of a broadcast are chosen exactly (``search``). Where
they have one, their window has a price on airtime too: at any such price the options' values
follow, the bound

.. math:: L(\nu_d) = \min_o \sum_t v_{t,o_t}(\nu_d) + w_u E_u(o) - w_d \nu_d T_d

holds, and the price that the chosen answers themselves make is tried next. Where it is the same one
the choice is optimal; otherwise the best one found is returned with the best bound. Own derivation:
docs/explanation/theory.md, section 9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.coordinator.policies.broadcast.accounts import Account, account
from siftmoe.coordinator.policies.broadcast.divided import divided
from siftmoe.coordinator.policies.broadcast.hearing import Hearing
from siftmoe.coordinator.policies.broadcast.search import choose_options
from siftmoe.coordinator.policies.token.cover import caps_with_outage
from siftmoe.coordinator.selection.problem import Budget, BudgetKind, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.energy.medium import Medium
    from siftmoe.coordinator.policies.loads.tables import HelperTables
    from siftmoe.coordinator.selection.problem import SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

#: Prices of answers that are tried; 3 to 6 suffice.
_MOST_ROUNDS: Final = 12
#: A plan within this share of its bound is good enough to end the search.
_CLOSE: Final = 1e-7
#: A plan within this share of its bound is called optimal.
_OPTIMAL: Final = 1e-9
#: Prices of deviation that an average budget is bisected over, and their range in octaves.
_AVERAGE_ROUNDS: Final = 24
_OCTAVES: Final = 30.0
#: Deviation outweighs energy by this factor where as much is served as fits.
_ABOVE_ALL: Final = 1e4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """A selection: an account of its sets, and a bound on the objective, NaN where none holds."""

    account: Account
    bound: float


def select_in_band(
    problem: SelectionProblem, tables: HelperTables, medium: Medium
) -> tuple[IntArray, Status, float]:
    """Choose sets of ways (T, W) of every token, with status and lower bound.

    Parameters
    ----------
    problem : SelectionProblem
    tables : HelperTables
        ``build_tables(problem)``.
    medium : Medium
        Its medium.
    """
    kind, value = problem.budget.kind, problem.budget.value
    if kind is BudgetKind.AVERAGE:
        return _average(problem, tables, medium)
    if kind is BudgetKind.PRICE:
        found = _choose(problem, tables, medium, cap=None)
        return found.account.sets, _status(found, problem), found.bound
    cap, outage = caps_with_outage(
        problem.routed_experts,
        problem.slot_weights(),
        tables.served,
        tables.base,
        reachable_ways(medium),
        value,
    )
    found = _choose(problem, tables, medium, cap=cap)
    if math.isinf(found.account.energy_j):
        return _as_fits(problem, tables, medium).account.sets, Status.INFEASIBLE, math.nan
    if outage.any():
        return found.account.sets, Status.INFEASIBLE, math.nan
    return found.account.sets, _status(found, problem), found.bound


def reachable_ways(medium: Medium) -> BoolArray:
    """Ways that carry a token alone in its windows, there and back, (H,)."""
    able: BoolArray = np.isfinite(medium.linear_costs(0.0, 0.0)).reshape(-1)
    return able


def _status(found: Found, problem: SelectionProblem) -> Status:
    objective = found.account.objective(problem)
    close = objective - found.bound <= _OPTIMAL * abs(objective)
    return Status.OPTIMAL if close else Status.FEASIBLE


def _choose(
    problem: SelectionProblem, tables: HelperTables, medium: Medium, *, cap: FloatArray | None
) -> Found:
    """Choose under a price of deviation, or caps."""
    if not medium.broadcast:
        found = divided(problem, tables, medium, cap=cap)
        return Found(account=found[0], bound=found[1])
    hearing = Hearing.of(problem, tables, medium)
    if not hearing.helper.size:
        nobody = np.full(problem.routed_experts.shape, -1, dtype=np.int64)
        sent = account(problem, tables, medium, nobody)
        return Found(account=sent, bound=sent.objective(problem))
    if medium.down is None:
        return _heard(problem, tables, hearing, cap)
    return _answered(problem, tables, hearing, cap)


def _heard(
    problem: SelectionProblem, tables: HelperTables, hearing: Hearing, cap: FloatArray | None
) -> Found:
    """Choose where answers have no price."""
    deviation = hearing.deviations()
    if cap is None:
        value = problem.budget.value * deviation
    else:
        value = np.where(deviation <= cap[:, None], 0.0, np.inf)
    near_w, _ = hearing.medium.usual_prices(problem.num_tokens)
    chosen = choose_options(hearing.options(value), hearing.medium.up, near_w=near_w)
    found = account(problem, tables, hearing.medium, hearing.sets(chosen.choice))
    return Found(account=found, bound=chosen.bound)


def _answered(
    problem: SelectionProblem, tables: HelperTables, hearing: Hearing, cap: FloatArray | None
) -> Found:
    """Choose where answers have a price, over that of their airtime."""
    medium, price = hearing.medium, problem.budget.value
    band = medium.down
    if band is None:
        raise ValueError("answers without a band have no price")
    up_w, down_w = medium.usual_prices(problem.num_tokens)
    best, bound = None, -math.inf
    low, high = 0.0, math.inf
    for _ in range(_MOST_ROUNDS):
        options = hearing.options(hearing.answered(down_w, price=price, cap=cap))
        chosen = choose_options(options, medium.up, near_w=up_w)
        bound = max(bound, chosen.bound - band.price * down_w * band.window_s)
        sets = hearing.answering(chosen.choice, down_w, price=price, cap=cap)
        now = account(problem, tables, medium, sets)
        if best is None or now.objective(problem) < best.objective(problem):
            best = now
        least = best.objective(problem)
        if least - bound <= _CLOSE * abs(least) or math.isinf(chosen.objective):
            break
        up_w = now.up_w if 0.0 < now.up_w < math.inf else up_w
        low, high, down_w = next_price(low, high, down_w, now.down_w)
        if not low < high * (1.0 - _OPTIMAL):
            break
    if best is None:
        raise ValueError("no price of answers was tried")
    return Found(account=best, bound=bound)


def next_price(low: float, high: float, tried: float, made: float) -> tuple[float, float, float]:
    """Bracket of a price on airtime and the next one, after the payloads at one made another."""
    if made > tried:
        low = max(low, tried)
    else:
        high = min(high, tried)
    if low < made < high:
        return low, high, made
    if math.isinf(high):
        return low, high, 4.0 * tried
    return low, high, math.sqrt(low * high) if low > 0.0 else 0.25 * high


def _average(
    problem: SelectionProblem, tables: HelperTables, medium: Medium
) -> tuple[IntArray, Status, float]:
    """Bisect a price of deviation until the tokens' mean keeps the budget."""
    allowed = problem.num_tokens * problem.budget.value
    slack = 1e-12 * (1.0 + allowed)
    none = account(problem, tables, medium, np.full((problem.num_tokens, 1), -1))
    if none.deviation <= allowed + slack:
        return none.sets, Status.OPTIMAL, 0.0
    usual = float(np.min(medium.linear_costs(*medium.usual_prices(problem.num_tokens))))
    if not math.isfinite(usual):
        return none.sets, Status.INFEASIBLE, math.nan
    middle = math.log2(usual * problem.num_tokens / none.deviation)
    low, high = middle - _OCTAVES, middle + _OCTAVES
    best, bound = None, 0.0
    for _ in range(_AVERAGE_ROUNDS):
        at = 0.5 * (low + high)
        priced = _at_price(problem, 2.0**at)
        found = _choose(priced, tables, medium, cap=None)
        bound = max(bound, found.bound - 2.0**at * allowed)
        if found.account.deviation <= allowed + slack:
            high = at
            if best is None or found.account.energy_j < best.energy_j:
                best = found.account
        else:
            low = at
    if best is None:
        return _as_fits(problem, tables, medium).account.sets, Status.INFEASIBLE, math.nan
    close = best.energy_j - bound <= _OPTIMAL * best.energy_j
    return best.sets, Status.OPTIMAL if close else Status.FEASIBLE, bound


def _at_price(problem: SelectionProblem, price: float) -> SelectionProblem:
    return replace(problem, budget=Budget(kind=BudgetKind.PRICE, value=price))


def _as_fits(problem: SelectionProblem, tables: HelperTables, medium: Medium) -> Found:
    """Serve as much as fits the windows: deviation priced above all energy."""
    bands = [band for band in (medium.up, medium.down) if band is not None]
    most_j = sum(
        band.price * band.window_s * (min(band.tx_power_limit_w, 1e6) + float(band.circuit_w.max()))
        for band in bands
    )
    stake = float((problem.slot_weights() * tables.base[problem.routed_experts]).sum())
    price = _ABOVE_ALL * most_j / max(stake / max(problem.num_tokens, 1), 1e-300)
    return _choose(_at_price(problem, price), tables, medium, cap=None)
