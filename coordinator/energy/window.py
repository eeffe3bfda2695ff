r"""Division of one window among bursts that follow each other, with a price on airtime: compiled.

Payloads :math:`b_g` over links of noise-to-gain power :math:`a_g = N_0 B / g` (W) share a band of B
hertz and a window of T seconds by time division. Sent at spectral efficiency x a payload lasts
:math:`b/(Bx)` and takes :math:`a_g(2^x - 1) + P_g` watts, radiated and in circuits. With a price
:math:`\nu` (W) on airtime

.. math:: h_g(\nu) = \min_{0 < x \le x_g} \frac{a_g(2^x - 1) + P_g + \nu}{x}, \qquad
          a_g\left(x \ln 2\; 2^x - 2^x + 1\right) = P_g + \nu

is the cost of a bit per hertz, whatever the payload: costs are linear in bits, and payloads over
equal links may be added up. The least energy is

.. math:: E = \max_{\nu \ge 0} \sum_g \frac{b_g}{B}\, h_g(\nu) - \nu T

and the maximiser is the price at which the airtimes fill the window, or 0. Own derivation:
docs/explanation/theory.md, section 9.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.coordinator.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

_LN2: Final = math.log(2.0)
#: Below it the excess is summed as a series: its closed form would cancel.
_SMALL: Final = 0.25
#: Coefficients (k - 1) / k! of y^k, k = 2 to 13; the rest is below 1e-17 of the sum.
_SERIES: Final = tuple((k - 1) / math.factorial(k) for k in range(2, 14))
#: Newton's method takes 4 to 9 steps; the limit ends it in any case.
_STEPS: Final = 60
#: Relative precision of airtimes in a window.
_FULL: Final = 1e-14
#: A load may exceed the window by this share: rounding.
WINDOW_SLACK: Final = 1e-12


@compiled
def excess(y: float) -> float:
    """Compute y e^y - e^y + 1 without cancellation."""
    if y >= _SMALL:
        return y * math.exp(y) - math.expm1(y)
    total = 0.0
    for k in range(len(_SERIES) - 1, -1, -1):
        total = total * y + _SERIES[k]
    return total * y * y


@compiled
def root(share: float) -> float:
    """Return y >= 0 with y e^y - e^y + 1 = share, by Newton's method from above."""
    if share <= 0.0:
        return 0.0
    y = min(math.sqrt(2.0 * share), 1.0 + math.log1p(share))
    for _ in range(_STEPS):
        step = (excess(y) - share) / (y * math.exp(y))
        y -= step
        if abs(step) <= 1e-15 * y:
            break
    return y


@compiled
def bit_cost(noise_w: float, limit: float, price_w: float) -> tuple[float, float]:
    """Cost of a bit per hertz at a price on airtime, circuits included, J, and its efficiency.

    ``limit`` is the greatest spectral efficiency, bit/s/Hz; the cost is infinite where it is 0.
    """
    if limit <= 0.0:
        return np.inf, 0.0
    if price_w <= 0.0:
        return noise_w * _LN2, 0.0
    x = min(root(price_w / noise_w) / _LN2, limit)
    return (noise_w * math.expm1(_LN2 * x) + price_w) / x, x


@compiled
def divide_window(
    hertz_s: FloatArray,
    noise_w: FloatArray,
    circuit_w: FloatArray,
    limit: FloatArray,
    window_s: float,
) -> tuple[float, FloatArray]:
    """Divide a window among payloads at least energy.

    Parameters
    ----------
    hertz_s : (G,) float64, Hz s
        Payloads over the bandwidth; 0 for none.
    noise_w, circuit_w : (G,) float64, W
    limit : (G,) float64, bit/s/Hz
    window_s : float, s

    Returns
    -------
    price : float, W
        Of airtime; infinite where the payloads do not fit, 0 where time is left over.
    airtime_s : (G,) float64, s
    """
    groups = hertz_s.size
    airtime = np.zeros(groups)
    whole = least = 0.0
    low, high = np.inf, 0.0
    for g in range(groups):
        if hertz_s[g] > 0.0:
            if limit[g] <= 0.0:
                return np.inf, airtime
            whole += hertz_s[g]
            least += hertz_s[g] / limit[g]
    if whole == 0.0:
        return 0.0, airtime
    if least > window_s * (1.0 + WINDOW_SLACK):
        return np.inf, airtime
    mean = _LN2 * whole / window_s
    for g in range(groups):
        if hertz_s[g] > 0.0:  # at the least of these prices time is short, at the most it is left
            value = noise_w[g] * excess(min(mean, 40.0)) - circuit_w[g]
            low, high = min(low, value), max(high, value)
    if high <= 0.0 or _fill(hertz_s, noise_w, circuit_w, limit, 0.0, airtime)[0] <= window_s:
        _fill(hertz_s, noise_w, circuit_w, limit, 0.0, airtime)
        return 0.0, airtime
    low = max(low, 1e-12 * high)
    while _fill(hertz_s, noise_w, circuit_w, limit, low, airtime)[0] < window_s:
        low *= 0.25
    for _ in range(400):
        if _fill(hertz_s, noise_w, circuit_w, limit, high, airtime)[0] <= window_s * (1.0 + _FULL):
            break
        high *= 4.0
    price = math.sqrt(low * high)
    for _ in range(200):
        total, slope = _fill(hertz_s, noise_w, circuit_w, limit, price, airtime)
        if abs(total - window_s) <= _FULL * window_s or high <= low * (1.0 + 4e-16):
            break
        if total > window_s:
            low = price
        else:
            high = price
        step = math.sqrt(low * high)
        if slope < 0.0:  # Newton's step on logarithms, which are nearly linear
            newton = price * math.exp(-math.log(total / window_s) * total / (price * slope))
            if low < newton < high:
                step = newton
        price = step
    return price, airtime


@compiled
def window_energy(
    hertz_s: FloatArray,
    noise_w: FloatArray,
    circuit_w: FloatArray,
    limit: FloatArray,
    window_s: float,
) -> float:
    """Least energy of payloads in a window, J; infinite where they do not fit."""
    price, airtime = divide_window(hertz_s, noise_w, circuit_w, limit, window_s)
    if price == np.inf:
        return np.inf
    total = 0.0
    for g in range(hertz_s.size):
        if airtime[g] > 0.0:
            rise = math.expm1(_LN2 * hertz_s[g] / airtime[g])
            total += airtime[g] * (noise_w[g] * rise + circuit_w[g])
    return total


@compiled
def divide_each(
    group: IntArray,
    hertz_s: FloatArray,
    noise_w: FloatArray,
    circuit_w: FloatArray,
    limit: FloatArray,
    window_s: float,
) -> tuple[FloatArray, bool]:
    """Airtimes, (m,) s, of payloads of which each group has a window; False if one does not fit.

    ``group`` (m,) ascends.
    """
    airtime = np.zeros(hertz_s.size)
    first = 0
    while first < hertz_s.size:
        last = first
        while last < hertz_s.size and group[last] == group[first]:
            last += 1
        here = slice(first, last)
        price, found = divide_window(
            hertz_s[here], noise_w[here], circuit_w[here], limit[here], window_s
        )
        if price == np.inf:
            return airtime, False
        airtime[here] = found
        first = last
    return airtime, True


@compiled
def alone_energies(
    hertz_s: float,
    noise_w: FloatArray,
    circuit_w: FloatArray,
    limit: FloatArray,
    window_s: float,
) -> FloatArray:
    """Least energy of a payload alone in the window over each link, (N,) J; infinite: none."""
    energy = np.empty(noise_w.size)
    for n in range(noise_w.size):
        here = slice(n, n + 1)
        energy[n] = window_energy(
            np.full(1, hertz_s), noise_w[here], circuit_w[here], limit[here], window_s
        )
    return energy


@compiled
def _fill(
    hertz_s: FloatArray,
    noise_w: FloatArray,
    circuit_w: FloatArray,
    limit: FloatArray,
    price: float,
    airtime: FloatArray,
) -> tuple[float, float]:
    """Airtimes at a price; their sum, infinite at no price at all, and its derivative."""
    total = slope = 0.0
    for g in range(hertz_s.size):
        if hertz_s[g] <= 0.0:
            continue
        y = root((price + circuit_w[g]) / noise_w[g])
        if y == 0.0:
            return np.inf, -np.inf
        x = y / _LN2
        if x < limit[g]:
            slope -= hertz_s[g] / (x * x) / (_LN2 * noise_w[g] * y * math.exp(y))
        x = min(x, limit[g])
        airtime[g] = hertz_s[g] / x
        total += airtime[g]
    return total, slope
