r"""Detection of a sounding burst: timing and coarse carrier frequency offset (CFO).

The sync part is matched-filtered at each CFO hypothesis, and the result is divided by the energy
in the window:

.. math:: m_k(f) = L\, \frac{\left|\sum_n p_n^*\, e^{-j 2 \pi f n}\, y_{k+n}\right|^2}
                         {\sum_n |p_n|^2 \sum_n |y_{k+n}|^2}, \qquad 0 \le m \le L = 256

In white noise alone its distribution does not depend on the noise power (``bounds``), so the
threshold follows from the false-alarm rate. First contact searches a bank of CFO hypotheses; once
a pair's CFO is known, one hypothesis is enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.sounding import bounds, pilots

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ComplexArray = NDArray[np.complex128]
    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Distance of CFO hypotheses, cycles per sample: half a step off costs 0.9 dB of the peak.
CFO_STEP = 1.0 / (2 * pilots.SYNC_LENGTH)
#: Longest search block; a longer one exceeds the processor's cache.
MAX_BLOCK = 65536
#: A lag belongs to the channel if its metric is above both: noise alone exceeds the first with
#: probability 4e-4, the sync part's own sidelobes stay below the second.
_LAG_METRIC = 8.0
_LAG_SHARE = 0.05
#: Peaks that are examined before a search ends without a detection.
_MAX_CANDIDATES = 4
#: Floor of the energy: silence must not divide zero by zero in single precision.
_LEAST_ENERGY = 1e-30


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """Result of a search: position and coarse CFO of a burst, or none.

    Parameters
    ----------
    detected : bool
        Whether the metric exceeds the threshold and pilots follow. The fields from ``start`` on
        are valid only then.
    metric, threshold : float
        Largest metric of the search, and its threshold.
    start : int
        Sample at which the burst starts on its strongest path.
    origin : int
        Sample that the channel estimate takes for the burst's start: at or before the first path,
        at most ``MAX_TAPS - 1`` samples before the last.
    cfo_hz, cfo_std_hz : float, Hz
        Coarse CFO by repetition, weighed against its range, and its standard uncertainty.
    """

    detected: bool
    metric: float
    threshold: float
    start: int = 0
    origin: int = 0
    cfo_hz: float = math.nan
    cfo_std_hz: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Parameters of a search: CFO range and false-alarm rate.

    Parameters
    ----------
    sample_rate_hz : float, Hz
    cfo_hz : float, Hz
        Centre of the CFO range.
    cfo_range_hz : float, Hz
        Half width of the range: 0 if the CFO is known within a quarter of
        ``sample_rate_hz / 256``.
    false_alarms_per_s : float, 1/s
        Upper bound (by the union bound over hypotheses) of the rate of false alarms while
        nothing but noise is received.
    sequence : int
        Of the transmitter, see `pilots`.
    """

    sample_rate_hz: float
    cfo_hz: float = 0.0
    cfo_range_hz: float = 0.0
    false_alarms_per_s: float = 1.0 / 3600.0
    sequence: int = 0

    def __post_init__(self) -> None:
        for name in ("sample_rate_hz", "false_alarms_per_s"):
            if not (getattr(self, name) > 0.0 and math.isfinite(getattr(self, name))):
                raise ValueError(f"search: {name} must be positive, got {getattr(self, name)}")
        if not self.cfo_range_hz >= 0.0:
            raise ValueError(f"search: cfo_range_hz must not be negative, got {self.cfo_range_hz}")
        reach = abs(self.cfo_hz) + self.cfo_range_hz
        if not reach <= 0.5 * self.sample_rate_hz:
            raise ValueError(
                f"search: CFO up to {reach} Hz is beyond half the sample rate "
                f"{self.sample_rate_hz} Hz"
            )

    @property
    def hypotheses_hz(self) -> FloatArray:
        """CFO hypotheses, (M,)."""
        step = CFO_STEP * self.sample_rate_hz
        side = math.ceil(self.cfo_range_hz / step)
        return np.asarray(self.cfo_hz + step * np.arange(-side, side + 1))

    @property
    def threshold(self) -> float:
        """Threshold of the metric."""
        tests = self.sample_rate_hz * len(self.hypotheses_hz)
        return bounds.metric_threshold(min(self.false_alarms_per_s / tests, 0.5))


@lru_cache(maxsize=256)
def _plan(search: Search) -> tuple[tuple[float, ...], float]:
    """Hypotheses in Hz, and the threshold."""
    return tuple(search.hypotheses_hz.tolist()), search.threshold


@lru_cache(maxsize=256)
def _template_spectrum(cfo: float, size: int, sequence: int) -> ComplexArray:
    rotation = np.exp(2j * math.pi * cfo * np.arange(pilots.SYNC_LENGTH))
    spectrum = np.fft.fft(pilots.sync_waveform(sequence) * rotation, size).conj()
    return np.asarray(spectrum.astype(np.complex64))


def matched_filter(samples: ComplexArray, *, cfo: float, sequence: int = 0) -> FloatArray:
    """Compute the detection metric at every position of the sync part.

    Parameters
    ----------
    samples : (n,) complex, n >= 256
    cfo : float
        Hypothesis, cycles per sample.
    sequence : int
        Of the transmitter.

    Returns
    -------
    (n - 255,) float32, 0 to 256
        Entry k: the halves start at sample k. 0 where nothing was received.
    """
    return np.asarray(_metrics(samples, (cfo,), sequence)[0])


def _metrics(samples: ComplexArray, cfos: tuple[float, ...], sequence: int) -> FloatArray:
    count = len(samples) - pilots.SYNC_LENGTH + 1
    size = 1 << (len(samples) - 1).bit_length()
    spectrum = np.fft.fft(samples.astype(np.complex64), size)
    templates = np.stack([_template_spectrum(cfo, size, sequence) for cfo in cfos])  # [M, size]
    peaks = np.fft.ifft(spectrum * templates)[:, :count]
    power = samples.real**2 + samples.imag**2
    total = np.concatenate([[0.0], np.cumsum(power, dtype=np.float64)])
    energy = total[pilots.SYNC_LENGTH :] - total[: -pilots.SYNC_LENGTH]
    # The sync part's energy is L, which cancels the L of the metric. The floor is above the
    # rounding error of the running sum.
    energy = np.maximum(energy, 1e-9 * total[-1] + _LEAST_ENERGY)
    scaled = (peaks.real**2 + peaks.imag**2) / energy.astype(np.float32)
    return np.asarray(scaled)


def acquire(samples: ComplexArray, search: Search) -> Detection:
    """Find the strongest complete burst.

    Parameters
    ----------
    samples : (n,) complex
        At least one burst long, at most ``MAX_BLOCK``.
    search : Search

    Returns
    -------
    Detection
        Not detected if no position exceeds the threshold, or none of those starts a complete burst.

    Raises
    ------
    ValueError
        If the samples are too short or too long.
    """
    if samples.ndim != 1 or not pilots.BURST_LENGTH <= len(samples) <= MAX_BLOCK:
        raise ValueError(
            f"acquire: samples must be one row of {pilots.BURST_LENGTH} to {MAX_BLOCK} samples, "
            f"got shape {samples.shape}"
        )
    hypotheses, threshold = _plan(search)
    turns = tuple(cfo / search.sample_rate_hz for cfo in hypotheses)
    metrics = _metrics(samples, turns, search.sequence)
    starts = len(samples) - pilots.BURST_LENGTH + 1
    whole = metrics[:, pilots.PREFIX : pilots.PREFIX + starts]  # [M, starts]
    strongest = 0.0
    for _ in range(_MAX_CANDIDATES):
        row, start = divmod(int(whole.argmax()), starts)
        metric = float(whole[row, start])
        strongest = max(strongest, metric)
        if not metric > threshold:
            break
        hypothesis = hypotheses[row]
        found = _confirm(samples, start, turns[row], search.sequence)
        if found is None:
            whole = whole.copy()  # the metrics still tell the lags of the next candidate
            whole[:, max(0, start - pilots.HALF) : start + pilots.HALF] = 0.0
            continue
        position = found + pilots.PREFIX
        cfo_hz, cfo_std_hz = _repetition_cfo(
            samples, first=position, around=hypothesis, search=search
        )
        return Detection(
            detected=True,
            metric=metric,
            threshold=threshold,
            start=found,
            origin=max(0, found + first_lag(metrics[row], position)),
            cfo_hz=cfo_hz,
            cfo_std_hz=cfo_std_hz,
        )
    return Detection(detected=False, metric=strongest, threshold=threshold)


def _confirm(samples: ComplexArray, start: int, cfo: float, sequence: int) -> int | None:
    """Start of the burst that a peak belongs to; None if it belongs to no complete burst.

    The overlap of a single half gives a side peak, a quarter as high, one half earlier or later.
    Only at the true start do the pilots follow, with four times the energy of the sync part.
    """
    last = len(samples) - pilots.BURST_LENGTH
    candidates = [start + shift for shift in (0, -pilots.HALF, pilots.HALF)]
    scores = {c: _explained(samples, c, cfo, sequence) for c in candidates if 0 <= c <= last}
    best = max(scores, key=lambda c: sum(scores[c]))
    sync, pilot = scores[best]
    return best if pilot > sync else None


def _explained(samples: ComplexArray, start: int, cfo: float, sequence: int) -> tuple[float, float]:
    """Energy matched on one path in the sync part and in all pilots, up to a common factor."""
    first = start + pilots.PREFIX
    templates = _templates(cfo, sequence)
    sync = np.vdot(templates[0], samples[first : first + pilots.SYNC_LENGTH])
    first += pilots.SYNC_LENGTH
    symbols = samples[first : start + pilots.BURST_LENGTH]
    bodies = symbols.reshape(pilots.SYMBOLS, pilots.SYMBOL_LENGTH)[:, pilots.PREFIX :]
    pilot = bodies @ templates[1].conj()
    return float(abs(sync) ** 2), float(np.vdot(pilot, pilot).real)


@lru_cache(maxsize=256)
def _templates(cfo: float, sequence: int) -> ComplexArray:
    body = pilots.pilot_segments()[0]
    pilot = pilots.burst_waveform(sequence)[body.start : body.start + body.length]
    rotation = np.exp(2j * math.pi * cfo * np.arange(pilots.SYNC_LENGTH))
    return np.asarray(np.stack([pilots.sync_waveform(sequence), pilot]) * rotation)


def _repetition_cfo(
    samples: ComplexArray, *, first: int, around: float, search: Search
) -> tuple[float, float]:
    """CFO by repetition, weighed against the hypothesis that found the burst."""
    rate = search.sample_rate_hz
    halves = samples[first : first + pilots.SYNC_LENGTH].reshape(2, pilots.HALF)
    turn = np.exp(-2j * math.pi * around / rate * pilots.HALF)
    correlation = np.vdot(halves[0], halves[1])
    phase = float(np.angle(correlation * turn))
    # All paths repeat, hence the SNR of the repetition and not that of the strongest path.
    energy = math.sqrt(np.vdot(halves[0], halves[0]).real * np.vdot(halves[1], halves[1]).real)
    share = min(max(abs(correlation) / energy, 1e-9), 1.0 - 1e-9)
    variance = float(bounds.repetition_cfo_std_hz(share / (1.0 - share), sample_rate_hz=rate)) ** 2
    # The CFO is uniform within half a step of the hypothesis. Without this prior, noise at -10 dB
    # moves one estimate in ten out of the range of the fine search.
    prior = (CFO_STEP * rate) ** 2 / 12.0
    weight = prior / (prior + variance)
    offset = phase * rate / (2.0 * math.pi * pilots.HALF)
    return around + weight * offset, math.sqrt(weight * variance)


def first_lag(metric: FloatArray, peak: int) -> int:
    """Lag of the channel's first tap, at most 0: middle one of the windows with most energy."""
    reach = pilots.MAX_TAPS - 1
    lags = np.zeros(2 * reach + 1)
    low, high = max(peak - reach, 0), min(peak + reach + 1, len(metric))
    lags[low - peak + reach : high - peak + reach] = metric[low:high]
    lags[lags < max(_LAG_METRIC, _LAG_SHARE * float(metric[peak]))] = 0.0
    total = np.concatenate([[0.0], np.cumsum(lags)])
    held = total[pilots.MAX_TAPS :] - total[: -pilots.MAX_TAPS]  # window by first lag + reach
    ties = np.flatnonzero(held >= held.max() * (1.0 - 1e-9))
    return int(ties[len(ties) // 2]) - reach
