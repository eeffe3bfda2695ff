r"""Options of tokens that share one window: exact, by a price on airtime.

Every token t takes one option o, which costs :math:`v_{t,o}` (priced deviation, say; infinite where
it is not allowed) and sends :math:`s_o` bits over link :math:`l_o`, or nothing:

.. math:: \min_o \sum_t v_{t,o_t} + w\,E\Big(\sum_{t:\,l_{o_t} = g} s_{o_t}\Big)_g
          = \min_o \max_{\nu \ge 0} \sum_t \Big(v_{t,o_t} + \tfrac{w}{B} s_{o_t} h_{l_{o_t}}(\nu)
          \Big) - w \nu T

with E the least energy of a window (`siftmoe.coordinator.energy.one_band`). Exchanging min and max
separates the tokens and bounds from below; the bound is concave in :math:`\nu`, its supergradient
the airtime in use less T. Where the airtime jumps over T tokens are tied; the options within the
gap of the bound are then enumerated, which proves the optimum. Own derivation:
docs/explanation/theory.md, section 9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.coordinator.compiled import compiled
from siftmoe.coordinator.policies.broadcast.closing import close_gap
from siftmoe.coordinator.policies.broadcast.options import option_costs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.energy.one_band import OneBand
    from siftmoe.coordinator.policies.broadcast.options import Options

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Most evaluations of the bound; regula falsi takes 8 to 20.
_MOST_PRICES: Final = 100
#: A bracket of prices that is as narrow as this is a point.
_NARROW: Final = 1e-13
#: Factor between prices while a bracket is sought, and its limits around the first price.
_STEP: Final = 8.0
_FAR: Final = 1e18
#: A choice within this share of its bound is optimal: rounding.
_EXACT: Final = 1e-12
#: Prices at which bounds cut off most, over the price that the best choice itself makes.
_AROUND: Final = (0.5, 0.8, 1.0, 1.25, 2.0)
#: Most tied tokens of which every number of changes is tried.
_MOST_TIED: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chosen:
    """A choice, and what is proved of it.

    Parameters
    ----------
    choice : (T,) int64
    objective : float, J
        Infinite where no allowed choice fits the window.
    bound : float, J
        No choice has less.
    proved : bool
        Whether the choice is optimal.
    """

    choice: IntArray
    objective: float
    bound: float
    proved: bool


@dataclass(slots=True)
class _At:
    """The bound at one price."""

    price_w: float
    bound: float
    airtime_s: float
    choice: IntArray


def choose_options(options: Options, band: OneBand, *, near_w: float = 0.0) -> Chosen:
    """Choose the best options.

    Parameters
    ----------
    options : Options
    band : OneBand
    near_w : float, W
        A guess of the price on airtime; it only saves time.
    """
    low, high = _bracket(options, band, near_w)
    if high is None:
        return Chosen(choice=low.choice, objective=math.inf, bound=math.inf, proved=False)
    low, high = _narrowed(options, band, low, high)
    best, objective = _best_between(options, band, low, high)
    bound = max(low.bound, high.bound)
    if not math.isfinite(objective):
        return Chosen(choice=best, objective=objective, bound=bound, proved=False)
    own_w = band.divide(options.payload(best, band.noise_w.size)).price_w
    bound = max(bound, _evaluate(options, band, own_w).bound)
    if objective - bound > _EXACT * abs(objective):
        prices = sorted({low.price_w, high.price_w, *(own_w * share for share in _AROUND)})
        best, objective, proved = close_gap(options, band, best, objective, prices)
        if not proved:
            bound = min(bound, objective)
            return Chosen(choice=best, objective=objective, bound=bound, proved=False)
    return Chosen(choice=best, objective=objective, bound=objective, proved=True)


def _evaluate(options: Options, band: OneBand, price_w: float) -> _At:
    cost, seconds = option_costs(options, band, price_w)
    choice, total = _cheapest(options.value, cost)
    airtime = float(seconds[choice].sum())
    return _At(price_w, total - band.price * price_w * band.window_s, airtime, choice)


@compiled
def _cheapest(value: FloatArray, cost: FloatArray) -> tuple[IntArray, float]:
    """Cheapest option of every token, and their sum."""
    tokens, options = value.shape
    choice = np.zeros(tokens, np.int64)
    total = 0.0
    for t in range(tokens):
        best = value[t, 0] + cost[0]
        for o in range(1, options):
            here = value[t, o] + cost[o]
            if here < best:
                best = here
                choice[t] = o
        total += best
    return choice, total


def _bracket(options: Options, band: OneBand, near_w: float) -> tuple[_At, _At | None]:
    """Prices with too much and with too little airtime in use; no second one: nothing fits."""
    finite = band.noise_w[np.isfinite(band.noise_w)]
    if not near_w > 0.0:
        near_w = float(np.median(finite)) if finite.size else 1.0
    at = _evaluate(options, band, near_w)
    window, factor = band.window_s, _STEP
    if at.airtime_s > window:
        low = at
        while low.price_w < _FAR * near_w:
            at = _evaluate(options, band, low.price_w * factor)
            if at.airtime_s <= window:
                return low, at
            low, factor = at, factor * _STEP
        return low, None
    high = at
    while high.price_w > near_w / _FAR:
        at = _evaluate(options, band, high.price_w / factor)
        if at.airtime_s > window:
            return at, high
        high, factor = at, factor * _STEP
    return _evaluate(options, band, 0.0), high  # so little is sent that time has no price


def _narrowed(options: Options, band: OneBand, low: _At, high: _At) -> tuple[_At, _At]:
    """Narrow the bracket until both ends choose alike, or to a point where some are tied."""
    window = band.window_s
    up = _log_ratio(low.airtime_s, window)
    down = _log_ratio(high.airtime_s, window)
    side = 0
    for _ in range(_MOST_PRICES):
        if np.array_equal(low.choice, high.choice) or low.price_w <= 0.0:
            break
        width = math.log(high.price_w / low.price_w)
        if width <= _NARROW:
            break
        share = min(max(up / (up - down), 1e-3), 1.0 - 1e-3) if width > 1e-9 else 0.5
        at = _evaluate(options, band, low.price_w * math.exp(width * share))
        if not low.price_w < at.price_w < high.price_w:
            break
        gap = _log_ratio(at.airtime_s, window)
        if at.airtime_s > window:
            low, up = at, gap
            down *= 0.5 if side == 1 else 1.0  # Illinois: the other end has stood still
            side = 1
        else:
            high, down = at, gap
            up *= 0.5 if side == -1 else 1.0
            side = -1
    return low, high


def _log_ratio(airtime: float, window: float) -> float:
    """Logarithm of the share of the window in use, within finite bounds."""
    if airtime <= 0.0:
        return -50.0
    return min(max(math.log(airtime / window), -50.0), 50.0) if math.isfinite(airtime) else 50.0


def _best_between(options: Options, band: OneBand, low: _At, high: _At) -> tuple[IntArray, float]:
    """Best choice on the way from the low price's to the high one's, one token after the other."""
    tied = np.flatnonzero(low.choice != high.choice)
    steps = range(len(tied) + 1)
    if len(tied) > _MOST_TIED:
        steps = range(0, len(tied) + 1, -(-len(tied) // _MOST_TIED))
    best, least = high.choice, math.inf
    for count in (*steps, len(tied)):
        choice = low.choice.copy()
        choice[tied[:count]] = high.choice[tied[:count]]
        value = options.objective(choice, band)
        if value < least:
            best, least = choice, value
    return best, least
