r"""Linear relaxation of the cheapest helper set: a bound and what each helper adds to it.

For :math:`\lambda \ge 0` and :math:`v_i \le \lambda b_i` with reduced costs
:math:`s_n = c_n - \sum_i (v_i - \lambda d_{i,n})^+ \ge 0` every set S within the cap costs at least

.. math:: \sum_i v_i - \lambda \epsilon + \sum_{n \in S} s_n ,

since :math:`c(S) = \sum_{n \in S} s_n + \sum_{n \in S} \sum_i (v_i - \lambda d_{i,n})^+` and the
last sum is at least :math:`\sum_i v_i - \lambda D(S)`. The v are found by dual ascent,
:math:`\lambda` by a line search. Our derivation, docs/explanation/theory.md, section 1; the ascent
is that of D. Erlenkotter, Oper. Res. 26 (1978), for facility location.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

#: Changes of less than this share are rounding: no branch is followed, no price raised for them.
IMPROVEMENT = 1e-12
#: Steps of the line search in log(lambda), and its half-width at first.
_LINE_STEPS, _LINE_WIDTH = 12, 3.0
#: Raises of every v_i in one dual ascent, at most.
_MOST_RAISES = 200


@compiled
def _dual_ascent(
    d: FloatArray,
    base: FloatArray,
    cost: FloatArray,
    cap: float,
    price: float,
    v: FloatArray,
    slack: FloatArray,
) -> float:
    """Lower bound at one price of deviation; fills ``v`` (K,) and the reduced costs (N,)."""
    slots, helpers = d.shape
    for n in range(helpers):
        slack[n] = cost[n]
    for i in range(slots):
        v[i] = base[i]
        for n in range(helpers):
            if cost[n] < np.inf:
                v[i] = min(v[i], d[i, n])
        v[i] *= price
    for _ in range(_MOST_RAISES):
        raised = False
        for i in range(slots):
            room, level = np.inf, price * base[i]
            for n in range(helpers):
                at = price * d[i, n]
                if at <= v[i]:
                    room = min(room, slack[n])
                elif cost[n] < np.inf:
                    level = min(level, at)
            step = min(room, level - v[i])
            if step > IMPROVEMENT * v[i]:
                raised = True
                for n in range(helpers):
                    if price * d[i, n] <= v[i]:
                        slack[n] -= step
                v[i] += step
        if not raised:
            break
    bound = -price * cap
    for i in range(slots):
        bound += v[i]
    return bound


@compiled
def reduced_costs(
    d: FloatArray, base: FloatArray, cost: FloatArray, cap: float, best: float, slack: FloatArray
) -> float:
    """Best bound over prices around ``best`` per deviation to be removed; fills ``slack``."""
    v = np.empty(base.size)
    middle = np.log(best / (base.sum() - cap))
    width = _LINE_WIDTH
    top = _dual_ascent(d, base, cost, cap, np.exp(middle), v, slack)
    for _ in range(_LINE_STEPS):
        width /= 1.6
        for side in (-width, width):
            bound = _dual_ascent(d, base, cost, cap, np.exp(middle + side), v, slack)
            if bound > top:
                top = bound
                middle += side
                break
    return _dual_ascent(d, base, cost, cap, np.exp(middle), v, slack)
