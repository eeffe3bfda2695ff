r"""A budget on the mean deviation of a batch, or a price on deviation, with convex energies.

.. math:: \min_{S_t} \sum_n e_n(q_n) \quad \text{s.t.} \quad \sum_t D_t(S_t) \le T \epsilon

Under a price :math:`\lambda` on deviation tokens are coupled only by the loads, so best response
with the price oracle applies. For the budget, :math:`\lambda` is bisected and the rest of the
budget is spent by single moves. The certificate prices both loads and deviation. No token has a
guarantee of its own. docs/explanation/theory.md, section 2.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.policies.batch.spending import balance, explore
from siftmoe.coordinator.policies.certificates.certify import certify
from siftmoe.coordinator.policies.loads.tables import deviation_at_stake
from siftmoe.coordinator.policies.token.exclusive import one_way_each
from siftmoe.coordinator.policies.token.price import price_batch, price_respond
from siftmoe.coordinator.selection.problem import Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.policies.loads.effort import Effort
    from siftmoe.coordinator.policies.loads.model import LoadModel
    from siftmoe.coordinator.policies.loads.tables import HelperTables
    from siftmoe.coordinator.selection.problem import SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Passes of best response at one price.
_MOST_PASSES = 50
#: Bisections of the price, and the factor by which it first grows and must be known at the end.
_MOST_BISECTIONS, _GROWTH, _CLOSE = 40, 4.0, 1.0 + 1e-6
#: Growth steps after which deviation is as dear as numbers allow.
_MOST_GROWTH = 60
#: Rounds of local search times options per round: more is left to the price.
_MOST_SEARCH = 300_000
#: Share of the rounds under a price that may release any number of tokens; the others few.
_UPHEAVAL, _MOST_RELEASED = 0.1, 6
#: Rounding forgiven in the budget, and a gap that counts as none, as shares.
_SLACK, _OPTIMAL_GAP = 1e-12, 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class _Priced:
    """An assignment found at a price: sets (T, K), their energy and total deviation."""

    price: float
    sets: IntArray
    energy: float
    deviation: float

    @property
    def value(self) -> float:
        """Energy plus deviation at its price."""
        return self.energy + self.price * self.deviation


class PricedGame:
    """Best response on energy plus priced deviation.

    Parameters
    ----------
    problem, tables, model
        The problem and what was derived from it.
    """

    def __init__(self, problem: SelectionProblem, tables: HelperTables, model: LoadModel) -> None:
        self._model, self._ways = model, model.ways()
        self._exclusive = tables.exclusive(problem)
        self.weights = problem.slot_weights()
        self.routed, self.served, self.base = problem.routed_experts, tables.served, tables.base
        self.order = np.argsort(-deviation_at_stake(problem, tables), kind="stable")

    def deviation(self, sets: IntArray) -> FloatArray:
        """Deviation of each token under its set, (T,)."""
        least = self.base[self.routed]  # [T, K]
        # the padding -1 finds the last column: nobody, at no finite deviation
        served = np.pad(self.served, ((0, 0), (0, 1)), constant_values=np.inf)
        for column in sets.T:
            least = np.minimum(least, served[self.routed, column[:, None]])
        total: FloatArray = (self.weights * least).sum(axis=1)
        return total

    def play(self, price: float, start: IntArray | None = None) -> _Priced:
        """Settle at a price, from given sets or from none."""
        model = self._model
        if model.independent:
            sets, _ = self.at_prices(model.first, price)
        else:
            sets = np.full(self.routed.shape, -1, dtype=np.int64) if start is None else start.copy()
            loads = model.loads(sets)
            for _ in range(_MOST_PASSES):
                if self._respond(model.energy, price, self.order, sets, loads) == 0:
                    break
        return self.describe(price, sets)

    def describe(self, price: float, sets: IntArray) -> _Priced:
        """Energy and deviation of sets."""
        energy = self._model.total(self._model.loads(sets))
        return _Priced(
            price=price, sets=sets, energy=energy, deviation=float(self.deviation(sets).sum())
        )

    def at_prices(self, cost: FloatArray, price: float) -> tuple[IntArray, FloatArray]:
        """Each token's best set and value at fixed prices of ways (H,) and of deviation."""
        routed, weights, served, base = self._game()

        def solve(tokens: IntArray, cost: FloatArray) -> tuple[IntArray, FloatArray]:
            return price_batch(routed[tokens], weights[tokens], served, base, cost, price)

        reachable = np.where(self._model.reachable, cost, np.inf)
        return one_way_each(solve, reachable, tokens=len(routed), helper=self._exclusive)

    def at_unit_prices(self, prices: FloatArray, price: float) -> tuple[IntArray, FloatArray]:
        """Choose at fixed prices of a unit of each resource (R,)."""
        model = self._model
        return self.at_prices(model.at_unit_prices(prices), price)

    def improve(self, found: _Priced, budget: float, effort: Effort) -> _Priced:
        """Use the budget that ``found`` leaves over, or win back what it lacks; then search."""
        if self._exclusive is not None:  # single moves know nothing of that
            return found
        model, sets = self._model, found.sets.copy()
        loads = model.loads(sets)
        anything = np.full(sets.shape[0], -1, dtype=np.int64)
        balance(*self._game(), model.energy, *self._ways[:2], budget, sets, loads, anything)
        if self.deviation(sets).sum() <= budget:
            rounds = min(effort.rounds, _MOST_SEARCH // max(1, sets.size * model.num_ways))
            seed = np.random.default_rng(effort.seed).integers(1, 2**63, 1, dtype=np.uint64)
            drawn = (model.energy, *self._ways[:2])
            explore(*self._game(), *drawn, budget, rounds, seed, sets, loads)
        return self.describe(found.price, sets)

    def shake(self, found: _Priced, effort: Effort) -> _Priced:
        """Search around an assignment: let some tokens choose at distorted energies, settle."""
        rng, model = np.random.default_rng(effort.seed), self._model
        best = found
        affordable = _MOST_SEARCH // max(1, self.routed.size * model.num_ways)
        for _ in range(min(effort.rounds, affordable)):
            sets = best.sets.copy()
            tokens = sets.shape[0]
            most = tokens if rng.random() < _UPHEAVAL else min(tokens, _MOST_RELEASED)
            released = rng.permutation(tokens)[: rng.integers(1, most + 1)]
            sets[released] = -1
            distortion = 1.0 + rng.random() * rng.random((model.capacity.size, 1))
            distorted = model.energy * distortion
            self._respond(distorted, found.price, released, sets, model.loads(sets))
            again = self.play(found.price, sets)
            best = again if again.value <= best.value else best
        return best

    def scale(self, sets: IntArray) -> FloatArray:
        """Estimate each resource's price: its marginal energies around the loads of ``sets``."""
        model = self._model
        if model.independent and model.by_unit:
            return np.zeros(model.capacity.size)  # the prices are known: e_n(1)
        return model.slope(model.loads(sets))

    def first_prices(self, sets: IntArray) -> FloatArray:
        """Prices at which the ascent starts, (R,)."""
        model = self._model
        if model.independent and model.by_unit:
            prices = np.zeros(model.capacity.size)
            prices[model.resource[:, 0]] = np.where(model.reachable, model.first, 0.0)
            return prices
        return self.scale(sets)

    def _respond(
        self, total: FloatArray, price: float, order: IntArray, sets: IntArray, loads: IntArray
    ) -> int:
        return price_respond(*self._game(), total, *self._ways, price, order, sets, loads)

    def _game(self) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
        return self.routed, self.weights, self.served, self.base


def prefill_priced(
    problem: SelectionProblem, tables: HelperTables, model: LoadModel, effort: Effort
) -> tuple[IntArray, Status, float]:
    """Least energy plus price times deviation; the bound is one on that sum."""
    game = PricedGame(problem, tables, model)
    price = problem.budget.value
    found = game.shake(game.play(price), effort)
    if not effort.certificate:
        return found.sets, Status.FEASIBLE, float("nan")

    def demand(prices: FloatArray) -> tuple[float, FloatArray]:
        sets, value = game.at_unit_prices(prices, price)
        return float(value.sum()), model.loads(sets).astype(np.float64)

    scale = game.scale(found.sets)
    certificate = certify(
        demand,
        model,
        scale,
        scale=scale,
        upper=found.value,
        effort=effort,
    )
    return found.sets, _status(certificate.gap(found.value)), certificate.bound


def _status(gap: float) -> Status:
    return Status.OPTIMAL if gap <= _OPTIMAL_GAP else Status.FEASIBLE


def select_average(
    problem: SelectionProblem, tables: HelperTables, model: LoadModel, effort: Effort
) -> tuple[IntArray, Status, float]:
    """Least energy within a mean deviation: sets (T, K), their status, the lower bound or NaN.

    If the budget cannot be met the sets are those of the least deviation that was found.
    """
    game = PricedGame(problem, tables, model)
    budget = problem.num_tokens * problem.budget.value
    slack = _SLACK * (1.0 + budget)
    nobody = game.describe(0.0, np.full(problem.routed_experts.shape, -1, dtype=np.int64))
    if nobody.deviation <= budget + slack:
        return nobody.sets, Status.OPTIMAL, 0.0
    first = _typical_price(problem, tables, model)
    around = _bisect(game, nobody, budget + slack, first=first)
    tried = [game.improve(found, budget + slack, effort) for found in around]
    within = [found for found in tried if found.deviation <= budget + slack]
    if not within:
        least = min(tried, key=lambda found: found.deviation)
        return least.sets, Status.INFEASIBLE, float("nan")
    best = min(within, key=lambda found: found.energy)
    if not effort.certificate:
        return best.sets, Status.FEASIBLE, float("nan")

    def demand(prices: FloatArray) -> tuple[float, FloatArray]:
        price = max(float(prices[-1]), 1e-300)
        sets, value = game.at_unit_prices(prices[:-1], price)
        loads = model.loads(sets).astype(np.float64)
        excess = float(game.deviation(sets).sum()) - budget
        return float(value.sum()) - price * budget, np.append(loads, excess)

    certificate = certify(
        demand,
        model,
        np.append(game.first_prices(best.sets), best.price),
        scale=np.append(game.scale(best.sets), best.price),
        upper=best.energy,
        effort=effort,
    )
    return best.sets, _status(certificate.gap(best.energy)), certificate.bound


def _typical_price(problem: SelectionProblem, tables: HelperTables, model: LoadModel) -> float:
    """Order of magnitude of joule per deviation."""
    stake = deviation_at_stake(problem, tables)
    first = model.first[model.reachable]
    if first.size == 0 or not np.median(first) > 0.0:
        return 1.0
    return float(np.median(first) / np.mean(stake))


def _bisect(
    game: PricedGame, nobody: _Priced, budget: float, *, first: float
) -> tuple[_Priced, _Priced]:
    """Find the assignments around the budget: with too much deviation, and with little enough.

    If no price meets the budget both are the one of least deviation.
    """
    low, high = nobody, game.play(first)
    for _ in range(_MOST_GROWTH):
        if high.deviation <= budget:
            break
        low, high = high, game.play(high.price * _GROWTH, high.sets)
    if high.deviation > budget:
        return high, high
    for _ in range(_MOST_BISECTIONS):
        if low.price > 0.0 and high.price <= low.price * _CLOSE:
            break
        middle = float(np.sqrt(low.price * high.price))
        price = middle if low.price > 0.0 else high.price / _GROWTH
        found = game.play(price, high.sets)
        low, high = (found, high) if found.deviation > budget else (low, found)
    return low, high
