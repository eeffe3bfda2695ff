r"""Best response where helper sets are too many to list: an exact oracle per token.

The same potential game as in ``search``, with the token's best set found by ``cover`` or
``price`` at current marginal energies. docs/explanation/theory.md, sections 2.2 and 2.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.policies.certificates.certify import certify
from siftmoe.coordinator.policies.token.cover import cover_batch, cover_respond

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.policies.loads.effort import Effort
    from siftmoe.coordinator.policies.loads.model import LoadModel
    from siftmoe.coordinator.policies.loads.tables import HelperTables

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Passes over all tokens before best response is taken as settled.
_MOST_PASSES = 50
#: Rounds that try to mend exceeded capacities where no search was asked for.
_MENDING_ROUNDS = 30
#: Rounds of search times tokens, slots and ways, where widths are chosen times slots again, since
#: an oracle with so many ways takes that much longer: more is left to the first answer.
_MOST_SEARCH = 3_000_000
#: Tokens released in a round, at most.
_MOST_RELEASED = 8


class CoverGame:
    """Best response of tokens under a cap each, maybe beyond capacities.

    Parameters
    ----------
    routed, weights : (M, K)
        Slots of the tokens that need a helper.
    tables, model
        Of the whole problem.
    cap : (M,) float64
        As of ``caps_with_outage``.
    """

    def __init__(
        self,
        routed: IntArray,
        weights: FloatArray,
        *,
        tables: HelperTables,
        model: LoadModel,
        cap: FloatArray,
    ) -> None:
        _, total = model.with_overflow()
        # what is out of reach altogether stays so
        self._total = np.where((model.capacity > 0)[:, None] | (total == 0.0), total, np.inf)
        self._model, self._cap = model, cap
        self._game = (routed, weights, tables.served, tables.base)
        # those who need most, and so can choose least, go first
        need = (weights * tables.base[routed]).sum(axis=1) - cap
        self._order = np.argsort(-need, kind="stable")
        self.sets = self._settled(np.full(routed.shape, -1, dtype=np.int64))

    def exceeds(self) -> bool:
        """Whether a capacity is exceeded."""
        return bool(np.any(self._model.loads(self.sets) > self._model.capacity))

    def value(self, sets: IntArray) -> float:
        """Energy of sets, with the price of exceeding capacities."""
        loads = self._model.loads(sets)
        return float(self._total[np.arange(loads.size), loads].sum())

    def search(self, rounds: int, rng: np.random.Generator) -> None:
        """Let a few tokens choose at distorted energies, settle, keep what is no worse."""
        model, tokens = self._model, self.sets.shape[0]
        choices = model.num_ways * (1 if model.by_unit else self.sets.shape[1])
        affordable = _MOST_SEARCH // max(1, self.sets.size * choices)
        for _ in range(min(rounds, affordable) if tokens else 0):
            sets = self.sets.copy()
            released = rng.permutation(tokens)[: rng.integers(1, _MOST_RELEASED + 1)]
            sets[released] = -1
            factor = 1.0 + rng.random() * rng.random((model.capacity.size, 1))
            self._respond(self._total * factor, released, sets, model.loads(sets))
            sets = self._settled(sets)
            if self.value(sets) <= self.value(self.sets):
                self.sets = sets

    def certify(self, effort: Effort) -> float:
        """Lower bound on the energy."""
        scale = self._model.slope(self._model.loads(self.sets))
        return certify(
            self._demand,
            self._model,
            scale,
            scale=scale,
            upper=self.value(self.sets),
            effort=effort,
        ).bound

    def _settled(self, sets: IntArray) -> IntArray:
        loads = self._model.loads(sets)
        for _ in range(_MOST_PASSES):
            if self._respond(self._total, self._order, sets, loads) == 0:
                break
        return sets

    def _respond(self, total: FloatArray, order: IntArray, sets: IntArray, loads: IntArray) -> int:
        ways = self._model.ways()
        return cover_respond(*self._game, total, *ways, self._cap, order, sets, loads)

    def _demand(self, prices: FloatArray) -> tuple[float, FloatArray]:
        model = self._model
        cost = np.where(model.reachable, model.at_unit_prices(prices), np.inf)
        sets, value = cover_batch(*self._game, cost, self._cap)
        return float(value.sum()), model.loads(sets).astype(np.float64)


def respond_capped(
    routed: IntArray,
    weights: FloatArray,
    *,
    tables: HelperTables,
    model: LoadModel,
    cap: FloatArray,
    effort: Effort,
) -> tuple[IntArray, float]:
    """Settle sets (M, K), maybe beyond capacities, with the lower bound or NaN."""
    game = CoverGame(routed, weights, tables=tables, model=model, cap=cap)
    rounds = max(effort.rounds, _MENDING_ROUNDS) if game.exceeds() else effort.rounds
    game.search(rounds, np.random.default_rng(effort.seed))
    if not effort.certificate or game.exceeds():
        return game.sets, float("nan")
    return game.sets, game.certify(effort)
