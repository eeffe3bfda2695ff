r"""Optimal division of a deadline between uplink and downlink: compiled inner loops.

At the optimum the marginal energy of airtime is the same in both directions. Energies are
convex in the airtime, so Newton's method within a bracket finds it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled
from siftmoe.coordinator.energy.tables import CAPACITY_SLACK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

_LN2 = math.log(2.0)
#: Newton's method ends when a step moves less than this share of the deadline.
_TOLERANCE = 1e-13
#: Steps after which bisection alone would have reached the tolerance.
_MAX_STEPS = 100


@compiled
def _power_slope(hertz_s: float, airtime: float, noise_w: float) -> tuple[float, float]:
    """First and second derivative of N (2^(h/T) - 1) T by the airtime T."""
    if hertz_s == 0.0 or noise_w == 0.0:
        return 0.0, 0.0
    y = _LN2 * hertz_s / airtime
    growth = math.exp(y)
    return noise_w * (math.expm1(y) - y * growth), noise_w * growth * y * y / airtime


@compiled
def _best_uplink(
    low: float,
    high: float,
    total: float,
    up: float,
    down: float,
    noise_up: float,
    noise_down: float,
) -> float:
    """Uplink airtime in [low, high] at which the marginal energies of both directions are equal."""
    if _slope(high, total, up, down, noise_up, noise_down)[0] <= 0.0:
        return high
    if _slope(low, total, up, down, noise_up, noise_down)[0] >= 0.0:
        return low
    airtime = 0.5 * (low + high)
    for _ in range(_MAX_STEPS):
        first, second = _slope(airtime, total, up, down, noise_up, noise_down)
        if first > 0.0:
            high = airtime
        else:
            low = airtime
        step = airtime - first / second if second > 0.0 else low
        if not low < step < high:
            step = 0.5 * (low + high)
        if abs(step - airtime) <= _TOLERANCE * total:
            return step
        airtime = step
    return airtime


@compiled
def _slope(
    airtime: float, total: float, up: float, down: float, noise_up: float, noise_down: float
) -> tuple[float, float]:
    if down == 0.0 or noise_down == 0.0:
        return _power_slope(up, airtime, noise_up)
    first_up, second_up = _power_slope(up, airtime, noise_up)
    first_down, second_down = _power_slope(down, total - airtime, noise_down)
    return first_up - first_down, second_up + second_down


@compiled
def divide(
    least_up: FloatArray,
    least_down: FloatArray,
    up: FloatArray,
    down: FloatArray,
    noise_up: FloatArray,
    noise_down: FloatArray,
    compute: FloatArray,
    window: float,
) -> FloatArray:
    """Airtimes of both directions for the loads of every helper.

    Parameters
    ----------
    least_up, least_down : (N, m) float64, s
        Shortest airtime of a load.
    up, down : (N, m) float64, Hz s
        A load's bits over the bandwidth; a load without requests has no answers either.
    noise_up, noise_down : (N,) float64, W
        Noise power over gain, times the price of the direction.
    compute : (N, m) float64, s
        Of a load.
    window : float, s

    Returns
    -------
    (2, N, m) float64, s
        0 for no load, NaN where a load does not fit.
    """
    airtime = np.zeros((2, *up.shape))
    for n in range(up.shape[0]):
        for k in range(up.shape[1]):
            if up[n, k] == 0.0:
                continue
            total = window - compute[n, k]
            low = least_up[n, k]
            high = total - least_down[n, k]
            if high < low - CAPACITY_SLACK * abs(total) or high <= 0.0:
                airtime[:, n, k] = np.nan
                continue
            high = max(low, high)
            airtime[0, n, k] = _best_uplink(
                low, high, total, up[n, k], down[n, k], noise_up[n], noise_down[n]
            )
            airtime[1, n, k] = total - airtime[0, n, k]
    return airtime
