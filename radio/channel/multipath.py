r"""A path through the air: gain, delay, and fading taps.

.. math:: h(t, \tau) = \sum_l \sqrt{g\, p_l}\, h_l(t)\, \delta(\tau - d - l \Delta), \qquad
          \sum_l p_l = 1

with taps :math:`h_l` of unit power that fade independently. Delays need not be whole samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.channel.fading import Fading, FadingKind, FadingModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ComplexArray = NDArray[np.complex128]
    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Half length of the interpolator for fractional delays; flat within 0.01 dB in 80 % of the band.
_INTERPOLATOR_HALF = 16
_INTERPOLATOR_BETA = 8.0
#: Knots per coherence time between which smooth fading is interpolated: off by (1.1/100)^2 / 8 of
#: its amplitude at most, -96 dB.
_KNOTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class AirPath:
    """A path through the air from one device to another.

    Parameters
    ----------
    gain : float
        Mean power gain, linear.
    delay_s : float, s
        Delay of the first tap.
    tap_powers : tuple of float
        Relative mean powers of the taps, scaled to sum to 1.
    tap_spacing_s : float, s
    fading : FadingModel
        Statistics of each tap; the taps fade independently.
    stream : int
        Number of the random stream; two paths with the same number fade alike (a reciprocal
        pair).
    """

    gain: float
    delay_s: float = 0.0
    tap_powers: tuple[float, ...] = (1.0,)
    tap_spacing_s: float = 0.0
    fading: FadingModel = field(default_factory=lambda: FadingModel(kind=FadingKind.STATIC))
    stream: int = 0

    def __post_init__(self) -> None:
        if not (self.gain > 0.0 and math.isfinite(self.gain)):
            raise ValueError(f"air path: gain must be positive and finite, got {self.gain}")
        if not (self.delay_s >= 0.0 and self.tap_spacing_s >= 0.0 and self.stream >= 0):
            raise ValueError(
                "air path: delay_s, tap_spacing_s and stream must not be negative, got "
                f"{self.delay_s}, {self.tap_spacing_s}, {self.stream}"
            )
        if not self.tap_powers or min(self.tap_powers) < 0.0 or sum(self.tap_powers) <= 0.0:
            raise ValueError(f"air path: tap_powers must be powers, got {self.tap_powers}")


class PathResponse:
    """The response of a path over time, at a sample rate.

    Parameters
    ----------
    path : AirPath
    seed : int
    sample_rate_hz : float, Hz
    """

    def __init__(self, path: AirPath, *, seed: int, sample_rate_hz: float) -> None:
        taps = len(path.tap_powers)
        powers = np.array(path.tap_powers) * (path.gain / sum(path.tap_powers))
        # Taps of different paths must not share a stream; a path has fewer than 1,000.
        self._taps: list[Fading] = [
            path.fading.link(1000 * path.stream + tap, seed=seed) for tap in range(taps)
        ]
        self._amplitudes = np.sqrt(powers)
        self._delays = np.asarray(path.delay_s + path.tap_spacing_s * np.arange(taps))
        self.lags, self._filters = _delay_filters(np.asarray(self._delays * sample_rate_hz))
        smooth = path.fading.kind is FadingKind.JAKES
        self._knot_s = path.fading.coherence_time_s / _KNOTS if smooth else 0.0

    def impulse(self, times_s: FloatArray) -> ComplexArray:
        """Impulse response at ascending times, (times, J), at the lags ``lags`` in samples."""
        return np.asarray(self._interpolated(times_s) @ self._filters)

    def response(self, time_s: float, frequencies_hz: FloatArray) -> ComplexArray:
        """Frequency response at one time."""
        phases = np.exp(-2j * math.pi * np.outer(self._delays, frequencies_hz))
        return np.asarray(self._weights(np.array([time_s]))[0] @ phases)

    def _interpolated(self, times_s: FloatArray) -> ComplexArray:
        """Weights, interpolated between knots where that saves work: [times, taps]."""
        if not self._knot_s:
            return self._weights(times_s)
        first, last = math.floor(times_s[0] / self._knot_s), math.floor(times_s[-1] / self._knot_s)
        if last - first + 2 >= len(times_s):
            return self._weights(times_s)
        knots = self._knot_s * np.arange(first, last + 2)
        at_knots = self._weights(knots)
        taps = [np.interp(times_s, knots, column) for column in at_knots.T]
        return np.stack(taps, axis=-1)

    def _weights(self, times_s: FloatArray) -> ComplexArray:
        fades = np.stack([tap.response(times_s) for tap in self._taps], axis=-1)
        return np.asarray(fades * self._amplitudes)  # [times, taps]


def _delay_filters(delays: FloatArray) -> tuple[IntArray, FloatArray]:
    """Windowed-sinc filters of delays in samples, on their common lags."""
    whole = np.round(delays).astype(np.int64)
    lags = np.arange(whole.min() - _INTERPOLATOR_HALF, whole.max() + _INTERPOLATOR_HALF + 1)
    offset = lags[np.newaxis, :] - delays[:, np.newaxis]  # [taps, J]
    inside = np.clip(1.0 - (offset / (_INTERPOLATOR_HALF + 0.5)) ** 2, 0.0, None)
    window = np.i0(_INTERPOLATOR_BETA * np.sqrt(inside)) / np.i0(_INTERPOLATOR_BETA)
    filters = np.where(inside > 0.0, np.sinc(offset) * window, 0.0)
    filters[np.abs(filters) < 1e-12] = 0.0
    used = np.any(filters != 0.0, axis=0)
    return lags[used], filters[:, used]
