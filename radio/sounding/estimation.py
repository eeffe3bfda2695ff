r"""Estimators of response, gain, noise and CFO from sounding bursts, each with its uncertainty.

The response over the 200 carriers is estimated twice. *Least squares*: carrier by carrier, mean of
the R pilots. *Tap-limited*: its projection on the responses of channels of 16 taps, which removes
92 % of the noise. The path gain is the mean of :math:`|\hat H_k|^2` less the noise that is in it:

.. math:: \hat g = \frac{1}{200} \sum_k |\hat H_k|^2 - \frac{16}{200} v, \qquad
          v = \frac{200}{256} \frac{\hat\sigma^2}{R}

The noise power comes from the differences between the pilots, in which the channel cancels. The CFO
is the one that best aligns the channel estimates of all six segments (both sync halves, four
pilots).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.sounding import bounds, pilots

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    ComplexArray = NDArray[np.complex128]
    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: The fine CFO is searched around the coarse one, cycles per sample: the first alias of the pilots'
#: alignment is 1/288 away.
_FINE_RANGE = 1.0 / 640.0
_FINE_POINTS = 33
_NEWTON_STEPS = 3
#: Replaces a lower SNR in the uncertainty of the CFO, which is then some 1e5 Hz.
_LEAST_SNR = 1e-9
#: Length of the tiles that a rotation is composed of; it divides the burst's length.
_TILE = 48
_TILE_STEPS = np.arange(_TILE)
_TILE_STARTS = np.arange(0, pilots.BURST_LENGTH, _TILE)
_PILOT_STARTS = np.array([s.start for s in pilots.pilot_segments()])
_PILOT_STEPS = np.arange(pilots.FFT_SIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelEstimate:
    """Estimates from one burst, or from a batch of shape (...).

    Parameters
    ----------
    response : (..., 200) complex128
        Tap-limited response at ``pilots.carriers()``, amplitude per unit of the burst; its
        absolute phase is arbitrary.
    response_ls : (..., 200) complex128
        Least-squares response.
    response_variance, response_ls_variance : (...) float64
        Mean variance per carrier of the two.
    noise_power : (...) float64
        Variance of a noise sample, in units of the samples squared.
    gain, gain_std : (...) float64
        Path gain, noise bias removed, and its standard uncertainty. At very low SNR the gain can
        be negative: it is not clipped. Without any signal its mean is some 1 % of the noise power
        above 0, since the search for the CFO maximises over noise.
    snr : (...) float64
        ``gain / noise_power``.
    cfo_hz, cfo_std_hz : (...) float64, Hz
    """

    response: ComplexArray
    response_ls: ComplexArray
    response_variance: FloatArray
    response_ls_variance: FloatArray
    noise_power: FloatArray
    gain: FloatArray
    gain_std: FloatArray
    snr: FloatArray
    cfo_hz: FloatArray
    cfo_std_hz: FloatArray


@dataclass(frozen=True, slots=True)
class _Model:
    """Constants of the estimator; Q is an orthonormal basis of 16-tap responses."""

    basis: ComplexArray  # [200, 16] Q
    pilot_fit: ComplexArray  # [200, 16]: response -> coordinates
    sync_fit: ComplexArray  # [100, 16]: response at the halves' carriers -> coordinates
    pilot_scale: ComplexArray  # [200]: spectrum of a pilot -> response
    sync_scale: ComplexArray  # [100]
    weights: FloatArray  # [6, 1]: inverse variance of each segment's coordinates, up to a factor
    grid: FloatArray  # [G]: CFO, cycles per sample
    grid_turns: ComplexArray  # [G, 6]: what aligns the segments at each
    pairs: tuple[IntArray, IntArray]  # [15]: earlier and later segment of every pair
    lags: FloatArray  # [15]: 2 pi times the distance of their centres, samples


@lru_cache(maxsize=64)
def _model(sequence: int) -> _Model:
    carriers, halves = pilots.carriers(), pilots.sync_carriers()
    taps = np.exp(-2j * math.pi * np.outer(carriers, np.arange(pilots.MAX_TAPS)) / pilots.FFT_SIZE)
    basis = np.linalg.qr(taps)[0]
    shared = np.searchsorted(carriers, 2 * halves)  # the halves use every other carrier
    segments = (*pilots.sync_segments(), *pilots.pilot_segments())
    centres = np.array([s.centre for s in segments])
    grid = np.linspace(-_FINE_RANGE, _FINE_RANGE, _FINE_POINTS)
    early, late = np.triu_indices(len(segments), 1)
    return _Model(
        basis=basis,
        pilot_fit=basis.conj(),
        sync_fit=np.linalg.pinv(basis[shared]).T,
        pilot_scale=_scale(pilots.pilot_symbols(sequence), pilots.FFT_SIZE),
        sync_scale=_scale(pilots.sync_symbols(sequence), pilots.HALF),
        weights=np.array([[s.length / pilots.FFT_SIZE] for s in segments]),
        grid=grid,
        grid_turns=np.exp(-2j * math.pi * np.outer(grid, centres - centres.mean())),
        pairs=(early, late),
        lags=2.0 * math.pi * (centres[late] - centres[early]),
    )


def _scale(symbols: ComplexArray, size: int) -> ComplexArray:
    return np.asarray(symbols.conj() * (math.sqrt(len(symbols)) / size))


def estimate(
    bursts: ComplexArray, *, cfo_hz: ArrayLike, sample_rate_hz: float, sequence: int = 0
) -> ChannelEstimate:
    """Estimate channel, noise and CFO from detected bursts.

    Parameters
    ----------
    bursts : (..., 1440) complex
        Samples from ``Detection.origin`` on.
    cfo_hz : (...), Hz
        Coarse CFO, within 0.0015 of the sample rate.
    sample_rate_hz : float, Hz
    sequence : int
        Of the transmitter, see `pilots`.

    Returns
    -------
    ChannelEstimate

    Raises
    ------
    ValueError
        If the last axis is not one burst long.
    """
    if bursts.ndim < 1 or bursts.shape[-1] != pilots.BURST_LENGTH:
        raise ValueError(
            f"estimate: bursts must have {pilots.BURST_LENGTH} samples, got shape {bursts.shape}"
        )
    model = _model(sequence)
    coarse = np.asarray(cfo_hz, dtype=np.float64) / sample_rate_hz
    sync, body = _segments(_derotate(bursts, coarse))
    halves = np.fft.fft(sync)[..., pilots.sync_carriers()] * model.sync_scale  # [..., 2, 100]
    coordinates = np.concatenate(
        [halves @ model.sync_fit, _pilot_responses(body, model) @ model.pilot_fit], axis=-2
    )  # [..., 6, 16]
    fine = _align(coordinates, model)
    responses = _pilot_responses(body * _pilot_turns(fine), model)
    return _summarise(responses, model, cfo=coarse + fine, sample_rate_hz=sample_rate_hz)


def tap_limited(response: ComplexArray) -> ComplexArray:
    """Project responses (..., 200) on those of channels of ``MAX_TAPS`` taps."""
    model = _model(0)  # the projection is the same for all sequences
    return np.asarray((response @ model.pilot_fit) @ model.basis.T)


def _pilot_responses(body: ComplexArray, model: _Model) -> ComplexArray:
    return np.asarray(np.fft.fft(body)[..., pilots.carriers()] * model.pilot_scale)


def _pilot_turns(cfo: FloatArray) -> ComplexArray:
    """Rotation that undoes a small offset over the pilots, (..., R, 256)."""
    angle = -2j * math.pi * cfo[..., np.newaxis]
    starts = np.exp(angle * _PILOT_STARTS)
    within = np.exp(angle * _PILOT_STEPS)
    return np.asarray(starts[..., np.newaxis] * within[..., np.newaxis, :])


def _summarise(
    responses: ComplexArray, model: _Model, *, cfo: FloatArray, sample_rate_hz: float
) -> ChannelEstimate:
    carriers, symbols = pilots.USED_CARRIERS, pilots.SYMBOLS
    mean = responses.mean(axis=-2)  # [..., 200]
    spread = _power(responses - mean[..., np.newaxis, :]).sum(axis=(-2, -1))
    per_symbol = spread / ((symbols - 1) * carriers)
    noise = per_symbol * (pilots.FFT_SIZE / carriers)
    variance = bounds.carrier_variance(noise)
    coordinates = mean @ model.pilot_fit  # [..., 16]
    power = _power(coordinates).sum(axis=-1)
    taps = pilots.MAX_TAPS
    gain = (power - taps * variance) / carriers
    snr = gain / noise
    usable = np.maximum(snr, _LEAST_SNR)
    return ChannelEstimate(
        response=coordinates @ model.basis.T,
        response_ls=mean,
        response_variance=variance * (taps / carriers),
        response_ls_variance=variance,
        noise_power=noise,
        gain=gain,
        gain_std=_gain_std(np.maximum(gain, 0.0), variance),
        snr=snr,
        cfo_hz=cfo * sample_rate_hz,
        cfo_std_hz=bounds.cfo_std_hz(usable, sample_rate_hz=sample_rate_hz),
    )


def _gain_std(gain: FloatArray, variance: FloatArray) -> FloatArray:
    # |c + e|^2 over 16 coordinates with e ~ CN(0, v): 2 |c|^2 v + 16 v^2, and the estimate of the
    # noise that is subtracted, 16 v / sqrt(600). [D], docs/explanation/radio.md
    taps, carriers = pilots.MAX_TAPS, pilots.USED_CARRIERS
    subtracted = (taps * bounds.noise_relative_std()) ** 2
    total = 2.0 * carriers * gain * variance + (taps + subtracted) * variance**2
    return np.asarray(np.sqrt(total) / carriers)


def _power(values: ComplexArray) -> FloatArray:
    return np.asarray(values.real**2 + values.imag**2)


def _derotate(bursts: ComplexArray, cfo: FloatArray) -> ComplexArray:
    """Undo a frequency offset: the rotation is an outer product of coarse and fine steps."""
    angle = -2j * math.pi * cfo[..., np.newaxis]
    coarse = np.exp(angle * _TILE_STARTS)  # [..., 30]
    fine = np.exp(angle * _TILE_STEPS)  # [..., 48]
    shape = (*bursts.shape[:-1], len(_TILE_STARTS), _TILE)
    steady = bursts.reshape(shape) * coarse[..., np.newaxis] * fine[..., np.newaxis, :]
    return np.asarray(steady.reshape(bursts.shape))


def _segments(burst: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
    batch = burst.shape[:-1]
    first = pilots.PREFIX + pilots.SYNC_LENGTH
    sync = burst[..., pilots.PREFIX : first].reshape(*batch, 2, pilots.HALF)
    symbols = burst[..., first:].reshape(*batch, pilots.SYMBOLS, pilots.SYMBOL_LENGTH)
    return sync, symbols[..., pilots.PREFIX :]


def _align(coordinates: ComplexArray, model: _Model) -> FloatArray:
    r"""CFO in cycles per sample that maximises :math:`\|\sum_s w_s e^{-j2\pi f t_s} c_s\|^2`."""
    weighted = np.asarray(coordinates * model.weights, dtype=np.complex128)
    fit = _power(model.grid_turns @ weighted).sum(axis=-1)  # [..., G]
    cfo: FloatArray = model.grid[fit.argmax(axis=-1)]
    early, late = model.pairs
    pairs = (weighted[..., late, :] * weighted[..., early, :].conj()).sum(axis=-1)  # [..., 15]
    step_limit = float(model.grid[1] - model.grid[0])
    for _ in range(_NEWTON_STEPS):
        terms = pairs * np.exp(-1j * model.lags * cfo[..., np.newaxis])
        slope = terms.imag @ model.lags
        curvature = -(terms.real @ model.lags**2)
        # Near the maximum the curvature is negative; elsewhere the grid point stays.
        step = -slope / np.where(curvature < 0.0, curvature, -np.inf)
        cfo = cfo + np.maximum(np.minimum(step, step_limit), -step_limit)
    return np.asarray(cfo)
