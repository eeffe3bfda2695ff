r"""Certificates: maximise a concave lower bound over prices.

For prices :math:`\mu \ge 0` per token and helper,

.. math:: L(\mu) = \sum_t \min_{S \text{ allowed}} \sum_{n \in S} \mu_n
          + \sum_n \min_{0 \le q \le Q_n} e_n(q) - \mu_n q \;\le\; OPT

whatever the prices: a bound needs no trust in how they were found. A supergradient is demand
minus supply. With an average budget its price :math:`\lambda` is one more coordinate.
docs/explanation/theory.md, section 2.2; the steps are those of B. T. Polyak, USSR Comput. Math. 9
(1969).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.policies.loads.model import LoadModel

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: The tokens' side of L: prices -> (first sum, demand at these prices).
TokenOracle = Callable[["FloatArray"], "tuple[float, FloatArray]"]

#: Steps without a better bound after which a step aims at half as much.
_PATIENCE = 6
#: Least share of the gap that a step aims at before the ascent ends.
_LEAST_AIM = 1 / 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A lower bound and the prices that prove it.

    Parameters
    ----------
    bound : float
        No plan costs less.
    prices : (P,) float64
    """

    bound: float
    prices: FloatArray

    def gap(self, upper: float) -> float:
        """Share of ``upper`` that a better plan could at most save."""
        return max(0.0, upper - self.bound) / upper if upper > 0.0 else 0.0


@compiled
def _supply(
    energy: FloatArray,
    marginal: FloatArray,
    capacity: IntArray,
    price: FloatArray,
    demand: FloatArray,
) -> tuple[float, FloatArray]:
    """Sum of min_q e_n(q) - price_n q, and the minimising loads nearest to the demand."""
    value = 0.0
    supply = np.empty(capacity.size)
    for n in range(capacity.size):
        low, high = 0, capacity[n]
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if marginal[n, middle] < price[n] else (low, middle)
        most = low
        while most < capacity[n] and most < demand[n] and marginal[n, most] <= price[n]:
            most += 1
        supply[n] = most
        value += energy[n, low] - price[n] * low
    return value, supply


def helper_side(
    model: LoadModel, prices: FloatArray, demand: FloatArray
) -> tuple[float, FloatArray]:
    """Second sum of L, and supply (P,): 0 for a price that no helper earns."""
    helpers = model.capacity.size
    value, supplied = _supply(
        model.energy, model.marginal, model.capacity, prices[:helpers], demand[:helpers]
    )
    supply = np.zeros_like(demand)
    supply[:helpers] = supplied
    return value, supply


def ascend(
    tokens: TokenOracle,
    model: LoadModel,
    start: FloatArray,
    *,
    scale: FloatArray,
    upper: float,
    steps: int,
    tolerance: float = 0.0,
) -> Certificate:
    """Climb by Polyak's steps in scaled coordinates.

    Parameters
    ----------
    tokens, model
        The two sides of L.
    start, scale : (P,) float64
        First prices, and the unit of each coordinate.
    upper : float
        Objective of a known plan.
    steps : int
        Evaluations at most.
    tolerance : float
        Stop when the gap, as a share of ``upper``, is at most this.
    """
    prices, best, uphill = start, Certificate(bound=-np.inf, prices=start), np.zeros_like(start)
    aim, waited = 1.0, 0
    for _ in range(steps):
        value, demand = tokens(prices)
        earned, supply = helper_side(model, prices, demand)
        bound, gradient = value + earned, demand - supply
        waited += 1
        if bound > best.bound:
            best, uphill, waited = Certificate(bound=bound, prices=prices), gradient, 0
        if waited >= _PATIENCE:
            prices, bound, gradient = best.prices, best.bound, uphill
            aim, waited = aim / 2, 0
        length = float(np.sum((scale * gradient) ** 2))
        if length == 0.0 or aim < _LEAST_AIM or best.gap(upper) <= tolerance:
            break
        step = (best.bound + aim * (upper - best.bound) - bound) / length
        prices = np.maximum(0.0, prices + step * scale**2 * gradient)
    return best
