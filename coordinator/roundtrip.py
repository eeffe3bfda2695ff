r"""Energy tables when uplink, compute and downlink share one deadline.

A helper sums its weighted experts before it answers, so one vector goes to it and one comes back
per token. How the deadline is divided between the two is chosen for every load: the division at
which a little more airtime is worth the same in both directions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.energy import CAPACITY_SLACK, check_powers, check_sizes
from siftmoe.coordinator.policies.compiled import compiled
from siftmoe.radio.link import MAX_BITS_PER_HERTZ, shannon_rate, transmit_energy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

_LN2 = math.log(2.0)
#: Newton's method ends when a step moves less than this share of the deadline.
_TOLERANCE = 1e-13
#: Steps after which bisection alone would have reached the tolerance.
_MAX_STEPS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class OneWay:
    """One direction of every helper's link.

    Parameters
    ----------
    bandwidth_hz : (N,) float64, Hz
    gain : (N,) float64
    noise_psd : (N,) float64, W/Hz
    tx_power_limit_w : (N,) float64, W
        Infinite where there is no limit.
    """

    bandwidth_hz: FloatArray
    gain: FloatArray
    noise_psd: FloatArray
    tx_power_limit_w: FloatArray

    def seconds_per_bit(self) -> FloatArray:
        """Shortest airtime of a bit at the power limit, (N,) s."""
        with np.errstate(divide="ignore"):
            at_limit = 1.0 / shannon_rate(
                tx_power_w=self.tx_power_limit_w,
                bandwidth_hz=self.bandwidth_hz,
                gain=self.gain,
                noise_psd=self.noise_psd,
            )
        result: FloatArray = np.maximum(at_limit, 1.0 / (MAX_BITS_PER_HERTZ * self.bandwidth_hz))
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTripTable:
    """Energy of every load, and how its deadline is divided.

    Parameters
    ----------
    energy_j : (N, Q+1) float64, J
        Uplink energy plus the priced downlink energy; infinite where a load does not fit.
    uplink_s, downlink_s : (N, Q+1) float64, s
        Airtimes; NaN where a load does not fit.
    """

    energy_j: FloatArray
    uplink_s: FloatArray
    downlink_s: FloatArray


def round_trip_energy_table(
    *,
    max_load: int,
    uplink_bits: float,
    downlink_bits: float,
    window_s: float,
    fixed_s: float,
    compute_s: FloatArray,
    uplink: OneWay,
    downlink: OneWay,
    downlink_price: float,
) -> RoundTripTable:
    r"""Energy when uplink, compute and downlink share one deadline.

    .. math:: e_n(q) = \min_{T_u + T_d = T - \tau_0 - \tau_n q}
              E(q s_u, T_u; g^u_n) + w_d\, E(q s_d, T_d; g^d_n)

    Both energies are perspective functions, jointly convex in (payload, airtime), so the minimum
    over the convex set of divisions is convex in q. A power limit is a least airtime that grows
    linearly with q and keeps that.

    Parameters
    ----------
    max_load : int
        Largest load Q of the table.
    uplink_bits, downlink_bits : float, bit
        Payload of one token in each direction; the downlink may be 0.
    window_s : float, s
        Deadline :math:`T`.
    fixed_s : float, s
        Part :math:`\tau_0` of it that does not depend on the load.
    compute_s : (N,) float64, s
        Compute time :math:`\tau_n` of one token on each helper.
    uplink, downlink : OneWay
    downlink_price : float
        :math:`w_d`, what a helper's joule counts for; 0 counts only the user's, and the helper
        then answers as fast as its power limit allows.

    Returns
    -------
    RoundTripTable

    Raises
    ------
    ValueError
        If a size, a bandwidth, a gain or a noise density is not positive, or a power limit, a
        time or the price is negative.

    Notes
    -----
    This project's derivation (docs/theory.md, section 0).
    """
    _check_round_trip(
        max_load, uplink_bits, downlink_bits, window_s, fixed_s, compute_s, downlink_price
    )
    check_powers(uplink.tx_power_limit_w)
    check_powers(downlink.tx_power_limit_w)
    airtime = _divide(
        max_load,
        uplink_bits * uplink.seconds_per_bit(),
        downlink_bits * downlink.seconds_per_bit() if downlink_bits else np.zeros(len(compute_s)),
        uplink_bits / uplink.bandwidth_hz,
        downlink_bits / downlink.bandwidth_hz,
        uplink.noise_psd * uplink.bandwidth_hz / uplink.gain,
        downlink_price * downlink.noise_psd * downlink.bandwidth_hz / downlink.gain,
        compute_s,
        window_s - fixed_s,
    )  # [2, N, Q+1]
    energy = _airtime_energy(uplink_bits, airtime[0], uplink)
    if downlink_price > 0.0:
        energy += downlink_price * _airtime_energy(downlink_bits, airtime[1], downlink)
    return RoundTripTable(energy_j=energy, uplink_s=airtime[0], downlink_s=airtime[1])


def _check_round_trip(
    max_load: int,
    uplink_bits: float,
    downlink_bits: float,
    window_s: float,
    fixed_s: float,
    compute_s: FloatArray,
    downlink_price: float,
) -> None:
    check_sizes(max_load=max_load, payload_bits=uplink_bits)
    if not window_s > 0.0:
        raise ValueError(f"window_s must be positive, got {window_s}")
    for name, value in (
        ("downlink_bits", downlink_bits),
        ("fixed_s", fixed_s),
        ("compute_s", compute_s.min(initial=0.0)),
        ("downlink_price", downlink_price),
    ):
        if not value >= 0.0:
            raise ValueError(f"{name} must not be negative, got {value}")


def _airtime_energy(payload_bits: float, airtime_s: FloatArray, way: OneWay) -> FloatArray:
    """Energy of every load at its airtime, (N, Q+1) J; infinite where there is none."""
    load = np.arange(airtime_s.shape[1]) * payload_bits
    bits = np.broadcast_to(load, airtime_s.shape)
    table = np.where(np.isnan(airtime_s), np.inf, 0.0)
    sent = (bits > 0.0) & ~np.isnan(airtime_s)
    row = np.nonzero(sent)[0]
    table[sent] = transmit_energy(
        payload_bits=bits[sent],
        airtime_s=airtime_s[sent],
        bandwidth_hz=way.bandwidth_hz[row],
        gain=way.gain[row],
        noise_psd=way.noise_psd[row],
    )
    return table


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
    """Uplink airtime in [low, high] at which both directions gain the same by more airtime."""
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
def _divide(
    max_load: int,
    least_up: FloatArray,
    least_down: FloatArray,
    up: FloatArray,
    down: FloatArray,
    noise_up: FloatArray,
    noise_down: FloatArray,
    compute: FloatArray,
    window: float,
) -> FloatArray:
    """Airtimes of both directions for every helper and load; NaN where the load does not fit."""
    airtime = np.full((2, len(up), max_load + 1), np.nan)
    airtime[:, :, 0] = 0.0
    for n in range(len(up)):
        for q in range(1, max_load + 1):
            total = window - compute[n] * q
            low = q * least_up[n]
            high = total - q * least_down[n]
            if high < low - CAPACITY_SLACK * abs(total) or high <= 0.0:
                break
            high = max(low, high)
            airtime[0, n, q] = _best_uplink(
                low, high, total, q * up[n], q * down[n], noise_up[n], noise_down[n]
            )
            airtime[1, n, q] = total - airtime[0, n, q]
    return airtime
