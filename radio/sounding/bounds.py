r"""Cramér-Rao bounds of the estimates from a sounding burst, and the detection curve.

SNR is per sample: power of the burst over power of the noise in the sample rate. The
bounds are Cramér-Rao bounds for a channel that is unknown but constant during a burst, given the
samples that the receiver uses (both sync halves and all pilots, without prefixes).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.sounding import pilots

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]


def _snr(snr: ArrayLike) -> FloatArray:
    values = np.asarray(snr, dtype=np.float64)
    if not np.all(values > 0.0):
        raise ValueError(f"snr must be positive and linear, got {snr!r}")
    return values


def carrier_variance(noise_power: ArrayLike, *, symbols: int = pilots.SYMBOLS) -> FloatArray:
    r"""Variance of the least-squares estimate of the response at one carrier.

    .. math:: \operatorname{var} \hat H_k = \frac{200}{256} \frac{\sigma^2}{R}

    Parameters
    ----------
    noise_power : (...), variance :math:`\sigma^2` of a noise sample
    symbols : int
        Pilot symbols R.
    """
    ratio = pilots.USED_CARRIERS / pilots.FFT_SIZE
    return np.asarray(np.asarray(noise_power, dtype=np.float64) * ratio / symbols)


def least_squares_nmse(snr: ArrayLike) -> FloatArray:
    """CRLB of the NMSE of the response when its carriers are unrelated."""
    return carrier_variance(1.0 / _snr(snr))


def tap_limited_nmse(snr: ArrayLike) -> FloatArray:
    """CRLB of the NMSE of the response of a channel of ``MAX_TAPS`` taps."""
    return np.asarray(least_squares_nmse(snr) * pilots.MAX_TAPS / pilots.USED_CARRIERS)


def path_gain_relative_std(snr: ArrayLike) -> FloatArray:
    r"""Bound of the relative standard deviation of the path gain.

    .. math:: \frac{\operatorname{std} \hat g}{g} \ge
              \sqrt{\frac{2}{200} \cdot \frac{200}{256 R\, \gamma}} = \frac{1}{\sqrt{128 R \gamma}}

    for the gain :math:`g`, the mean of :math:`|H_k|^2` over the carriers, and SNR :math:`\gamma`.
    """
    return np.asarray(np.sqrt(2.0 * least_squares_nmse(snr) / pilots.USED_CARRIERS))


def noise_relative_std(symbols: int = pilots.SYMBOLS) -> float:
    """Bound of the relative standard deviation of the noise power from symbol differences."""
    return 1.0 / math.sqrt((symbols - 1) * pilots.USED_CARRIERS)


def cfo_std_hz(snr: ArrayLike, *, sample_rate_hz: float) -> FloatArray:
    r"""CRLB of the carrier frequency offset from the whole burst.

    .. math:: \operatorname{var} \hat f \ge
              \frac{f_s^2}{8 \pi^2 \gamma \sum_n (t_n - \bar t)^2}

    over the sample indices :math:`t_n` of all segments. An unknown channel costs the mean time
    :math:`\bar t`; what more it costs with 16 taps is below 0.1 dB.
    """
    variance = sample_rate_hz**2 / (8.0 * math.pi**2 * _snr(snr) * _time_spread())
    return np.asarray(np.sqrt(variance))


@lru_cache(maxsize=1)
def _time_spread() -> float:
    segments = (*pilots.sync_segments(), *pilots.pilot_segments())
    times = np.concatenate([s.start + np.arange(s.length) for s in segments])
    return float(np.sum((times - times.mean()) ** 2))


def repetition_cfo_std_hz(snr: ArrayLike, *, sample_rate_hz: float) -> FloatArray:
    r"""Return the standard deviation of the CFO by repetition, to first order in the phase error.

    .. math:: \operatorname{var} \hat f = \left(\frac{f_s}{2 \pi L}\right)^2
              \frac{1}{L} \left(\frac{1}{\gamma} + \frac{1}{2 \gamma^2}\right)
    """
    ratio = _snr(snr)
    phase_variance = (1.0 / ratio + 0.5 / ratio**2) / pilots.HALF
    scale = sample_rate_hz / (2.0 * math.pi * pilots.HALF)
    return np.asarray(scale * np.sqrt(phase_variance))


def metric_threshold(false_alarm_probability: float) -> float:
    r"""Threshold of the detection metric for a probability of false alarm per position.

    .. math:: \theta = L \left(1 - p^{1/(L-1)}\right)

    In white Gaussian noise of any power the metric of ``sync.matched_filter`` over L = 256 samples
    is L times a Beta(1, L-1) variable, so the false-alarm rate is exact.
    """
    if not 0.0 < false_alarm_probability < 1.0:
        raise ValueError(
            f"false_alarm_probability must lie between 0 and 1, got {false_alarm_probability}"
        )
    length = pilots.SYNC_LENGTH
    return -length * math.expm1(math.log(false_alarm_probability) / (length - 1))


def detection_probability(
    snr: ArrayLike, *, false_alarm_probability: float, cfo_error: float = 0.0
) -> FloatArray:
    r"""Probability that the metric at the burst exceeds the threshold, in AWGN.

    The metric over L is :math:`A/(A+B)` with :math:`A` noncentral chi-square of 2 degrees of
    freedom and :math:`B` of 2L-2: a Poisson mixture of Beta variables with whole parameters,
    whose distribution is a finite sum.

    Parameters
    ----------
    snr : (...), linear
    false_alarm_probability : float
        Per position, as in ``metric_threshold``.
    cfo_error : float
        CFO left over, in cycles per sample; it leaves sinc(256 cfo_error)^2 of the peak.
    """
    ratio = _snr(snr)
    length = pilots.SYNC_LENGTH
    level = metric_threshold(false_alarm_probability) / length
    kept = float(np.sinc(length * cfo_error) ** 2)
    # What CFO moves off the template stays in the window, as if it were more noise.
    stray = ratio * (length * (1.0 - kept) / (length - 1))
    odds = level / (1.0 - level) * (1.0 + stray)
    levels = odds / (1.0 + odds)
    results = [
        _noncentral_beta_tail(length * kept * g, x)
        for g, x in zip(ratio.ravel(), levels.ravel(), strict=True)
    ]
    return np.array(results).reshape(ratio.shape)


def _noncentral_beta_tail(mean: float, level: float) -> float:
    """P(X > level), X ~ Beta(1 + J, L - 1) with J ~ Poisson(mean)."""
    length = pilots.SYNC_LENGTH
    last = int(mean + 12.0 * math.sqrt(mean) + 60.0)
    terms = np.arange(last + 1, dtype=np.float64)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(terms[1:]))])
    weights = np.exp(terms * math.log(mean) - mean - log_factorial)
    # P(Beta(1+j, L-1) > x) = sum over i <= j of C(L-2+i, i) x^i (1-x)^(L-1)
    steps = np.log((length - 2.0 + terms[1:]) / terms[1:])
    log_binomial = np.concatenate([[0.0], np.cumsum(steps)])
    tails = np.exp(log_binomial + terms * math.log(level) + (length - 1) * math.log1p(-level))
    return float(min(1.0, weights @ np.minimum(np.cumsum(tails), 1.0)))
