r"""Bandwidth of least latency: a shared band divided among devices that must all be waited for.

.. math:: \min_{B_k \ge 0,\ \sum_k B_k = B}\ \max_k t_k(B_k), \qquad
          t_k(B_k) = q_k \left(c_k + \frac{s_d}{R^d_k(B_k)} + \frac{s_u}{R^u_k(B_k)}\right), \qquad
          R(B) = B \log_2\left(1 + \frac{P g}{N_0 B}\right)

Each :math:`t_k` is convex and decreasing, so at the optimum all active devices finish together.
Their common latency is the root of the convex, decreasing :math:`\sum_k B_k(t) - B`, where
:math:`B_k(t)` inverts :math:`t_k`. Newton's method approaches both roots from one side only; the
inner one is taken on the concave service rate :math:`(t_k / q_k - c_k)^{-1}`, which is nearly
linear in the bandwidth. The latency model follows WDMoE (arXiv 2411.06681); formulas and method
are this project's derivation (docs/explanation/theory.md, section 4).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

_LN2 = math.log(2.0)
#: Relative step below which a root counts as found; the next step would be its square.
_TOLERANCE = 1e-13
#: Far more steps than Newton's method takes; bisection alone would end here.
_MAX_STEPS = 100


def allocate_bandwidth(
    *,
    tokens: FloatArray,
    compute_s: FloatArray,
    downlink_bits: float,
    uplink_bits: float,
    downlink_power_w: FloatArray,
    downlink_gain: FloatArray,
    uplink_power_w: FloatArray,
    uplink_gain: FloatArray,
    noise_psd: ArrayLike,
    bandwidth_hz: float,
) -> tuple[float, FloatArray]:
    """Divide a band so that the slowest device is as fast as possible.

    Parameters
    ----------
    tokens : (N,) float64
        Tokens :math:`q_k` on each device; a device with none gets no bandwidth.
    compute_s : (N,) float64, s
        Compute time :math:`c_k` of one token.
    downlink_bits, uplink_bits : float, bit
        Payload of a token to a device and back; one of them may be 0.
    downlink_power_w, uplink_power_w : (N,) float64, W
        Transmit power towards the device and of the device.
    downlink_gain, uplink_gain : (N,) float64
    noise_psd : number or (N,), W/Hz
    bandwidth_hz : float, Hz
        The whole band :math:`B`.

    Returns
    -------
    latency_s : float, s
        Latency of the slowest device; 0 if none has tokens.
    bandwidth_hz : (N,) float64, Hz
        Sums to the whole band unless no device has tokens.

    Raises
    ------
    ValueError
        If the band, a power, a gain or a noise density is not positive, or a number of tokens, a
        compute time or a payload is negative, or both payloads are 0.
    """
    load = np.asarray(tokens, dtype=np.float64)
    noise = np.broadcast_to(np.asarray(noise_psd, dtype=np.float64), load.shape)
    _check(
        not_negative={
            "tokens": load,
            "compute_s": compute_s,
            "downlink_bits": downlink_bits,
            "uplink_bits": uplink_bits,
        },
        positive={
            "downlink_power_w": downlink_power_w,
            "downlink_gain": downlink_gain,
            "uplink_power_w": uplink_power_w,
            "uplink_gain": uplink_gain,
            "noise_psd": noise,
            "bandwidth_hz": bandwidth_hz,
            "downlink_bits + uplink_bits": downlink_bits + uplink_bits,
        },
    )
    return _allocate(
        load,
        np.asarray(compute_s, dtype=np.float64),
        float(downlink_bits),
        float(uplink_bits),
        downlink_power_w * downlink_gain / noise,
        uplink_power_w * uplink_gain / noise,
        float(bandwidth_hz),
    )


def token_latency(
    *,
    compute_s: FloatArray,
    downlink_bits: float,
    uplink_bits: float,
    downlink_power_w: FloatArray,
    downlink_gain: FloatArray,
    uplink_power_w: FloatArray,
    uplink_gain: FloatArray,
    noise_psd: ArrayLike,
    bandwidth_hz: FloatArray,
) -> FloatArray:
    """Time that one token takes on each device at its bandwidth, (N,) s.

    Parameters are those of `allocate_bandwidth`, but ``bandwidth_hz`` (N,) is what each device
    has; a device without bandwidth takes infinitely long.
    """
    noise = np.broadcast_to(np.asarray(noise_psd, dtype=np.float64), bandwidth_hz.shape)
    down = downlink_power_w * downlink_gain / noise
    up = uplink_power_w * uplink_gain / noise
    latency = np.full(bandwidth_hz.shape, np.inf)
    for k in np.flatnonzero(bandwidth_hz > 0.0):
        rate, _ = _service(float(bandwidth_hz[k]), downlink_bits, uplink_bits, down[k], up[k])
        latency[k] = compute_s[k] + 1.0 / rate
    return latency


def _check(
    *, not_negative: dict[str, FloatArray | float], positive: dict[str, FloatArray | float]
) -> None:
    # Together first: looking at each one costs more than the allocation.
    if (np.hstack(list(not_negative.values())) >= 0.0).all() and (
        np.hstack(list(positive.values())) > 0.0
    ).all():
        return
    for name, value in not_negative.items():
        if not np.all(np.asarray(value) >= 0.0):
            raise ValueError(f"{name} must not be negative, got {value}")
    for name, value in positive.items():
        if not np.all(np.asarray(value) > 0.0):
            raise ValueError(f"{name} must be positive, got {value}")


@compiled
def _rate(band: float, snr_hz: float) -> tuple[float, float]:
    """Shannon rate at a bandwidth, and its derivative; ``snr_hz`` is P g / N0."""
    ratio = snr_hz / band
    log = math.log1p(ratio)
    return band * log / _LN2, (log - ratio / (1.0 + ratio)) / _LN2


@compiled
def _service(
    band: float, down_bits: float, up_bits: float, down_snr: float, up_snr: float
) -> tuple[float, float]:
    """Tokens per second that the links carry, concave in the bandwidth, and its derivative."""
    seconds = 0.0
    slope = 0.0
    if down_bits > 0.0:
        rate, growth = _rate(band, down_snr)
        seconds += down_bits / rate
        slope -= down_bits * growth / (rate * rate)
    if up_bits > 0.0:
        rate, growth = _rate(band, up_snr)
        seconds += up_bits / rate
        slope -= up_bits * growth / (rate * rate)
    return 1.0 / seconds, -slope / (seconds * seconds)


@compiled
def _needed(
    target: float,
    guess: float,
    most: float,
    down_bits: float,
    up_bits: float,
    down_snr: float,
    up_snr: float,
) -> tuple[float, float]:
    """Bandwidth in (0, most] that serves ``target`` tokens per second, and its derivative."""
    low, high = 0.0, most
    band = guess
    slope = 1.0
    for _ in range(_MAX_STEPS):
        rate, slope = _service(band, down_bits, up_bits, down_snr, up_snr)
        if rate > target:
            high = band
        else:
            low = band
        step = band + (target - rate) / slope
        if not low <= step <= high:
            step = 0.5 * (low + high)
        if abs(step - band) <= _TOLERANCE * band:
            return step, 1.0 / slope
        band = step
    return band, 1.0 / slope


@compiled
def _allocate(
    tokens: FloatArray,
    compute: FloatArray,
    down_bits: float,
    up_bits: float,
    down_snr: FloatArray,
    up_snr: FloatArray,
    total: float,
) -> tuple[float, FloatArray]:
    band = np.zeros(len(tokens))
    active = np.flatnonzero(tokens)
    if len(active) == 0:
        return 0.0, band
    latency = 0.0  # no less than each device alone with the whole band
    highest = 0.0  # no more than the slowest of a uniform division
    share = total / len(active)
    for k in active:
        alone, _ = _service(total, down_bits, up_bits, down_snr[k], up_snr[k])
        uniform, _ = _service(share, down_bits, up_bits, down_snr[k], up_snr[k])
        latency = max(latency, tokens[k] * (compute[k] + 1.0 / alone))
        highest = max(highest, tokens[k] * (compute[k] + 1.0 / uniform))
        band[k] = share
    lowest = latency
    for _ in range(_MAX_STEPS):
        used = 0.0
        slope = 0.0
        for k in active:
            spare = latency / tokens[k] - compute[k]
            band[k], per_rate = _needed(
                1.0 / spare, band[k], total, down_bits, up_bits, down_snr[k], up_snr[k]
            )
            used += band[k]
            slope -= per_rate / (spare * spare * tokens[k])
        if used > total:
            lowest = latency
        else:
            highest = latency
        step = latency + (total - used) / slope
        if not lowest <= step <= highest:
            step = 0.5 * (lowest + highest)
        if abs(step - latency) <= _TOLERANCE * latency:
            break
        latency = step
    band *= total / band.sum()
    latency = 0.0
    for k in active:
        rate, _ = _service(band[k], down_bits, up_bits, down_snr[k], up_snr[k])
        latency = max(latency, tokens[k] * (compute[k] + 1.0 / rate))
    return latency, band
