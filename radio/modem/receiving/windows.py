"""Cuts the bodies of symbols out of received samples, with carrier offset and clock drift removed.

Both offsets come from one oscillator: a carrier that is off by a fraction d has a sample clock that
is off by d, so that a symbol n samples after the burst's start begins at n (1 - d). Whole samples
move the window, the rest turns the carriers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.radio.compiled import compiled, compiled_fast
from siftmoe.radio.modem.framing.carriers import NUMEROLOGIES, PREFIX

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.modem.framing.carriers import Numerology

    ComplexArray = NDArray[np.complex64]
    FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How far oscillator and clock of a burst are off.

    Parameters
    ----------
    turn : float, rad/sample
        Carrier offset.
    drift : float
        Samples by which a symbol comes later, per sample since the start.
    """

    turn: float
    drift: float


@compiled
def _cut(samples: Any, first: Any, turn: Any, bodies: Any) -> None:
    """Rows of ``bodies`` from ``samples``, turned back; the phase is 0 at the first sample."""
    step = complex(math.cos(turn), -math.sin(turn))
    for row in range(bodies.shape[0]):
        begin = first[row]
        angle = -turn * begin
        phase = complex(math.cos(angle), math.sin(angle))
        for i in range(bodies.shape[1]):
            bodies[row, i] = samples[begin + i] * phase
            phase *= step


def cut(samples: ComplexArray, offsets: FloatArray, length: int, timing: Timing) -> ComplexArray:
    """Cut stretches of a burst and turn them back by the carrier offset.

    Parameters
    ----------
    samples : (n,) complex64
        From the burst's start on.
    offsets : (m,) float64
        First samples of the stretches, from the burst's start.
    length : int
    timing : Timing

    Returns
    -------
    (m, length) complex64

    Raises
    ------
    ValueError
        If a stretch lies outside of the samples.
    """
    first = _whole(offsets, timing)
    if len(first) and not 0 <= first.min() <= first.max() <= len(samples) - length:
        raise ValueError(f"cut: {first.min()} to {first.max() + length} of {len(samples)} samples")
    bodies = np.empty((len(first), length), np.complex64)
    _cut(samples, first, timing.turn, bodies)
    return bodies


def _whole(offsets: FloatArray, timing: Timing) -> NDArray[np.int64]:
    return np.rint(offsets * (1.0 + timing.drift)).astype(np.int64)


@compiled_fast
def _place(spectrum: Any, ramps: Any, scale: Any, places: Any, data: Any, tones: Any) -> None:
    """Scale the carriers, turn them by a ramp, and put them at their places."""
    size, used = spectrum.shape[1], places.shape[0]
    for row in range(spectrum.shape[0]):
        angle = ramps[row]
        step = complex(math.cos(angle), math.sin(angle))
        angle *= -(used // 2)
        phase = scale * complex(math.cos(angle), math.sin(angle))
        for k in range(used):
            carrier = k - used // 2
            if k == used // 2:
                phase *= step  # DC is not used
            if carrier >= 0:
                carrier += 1
            value = spectrum[row, carrier if carrier > 0 else size + carrier] * phase
            phase *= step
            place = places[k]
            if place >= 0:
                data[row, place] = value
            else:
                tones[row, -1 - place] = value


@lru_cache(maxsize=len(NUMEROLOGIES))
def _places(numerology: Numerology) -> NDArray[np.int64]:
    """Place of every carrier among the data cells; that of a pilot p as -1 - p."""
    places = np.empty(numerology.used, np.int64)
    places[numerology.data_places] = np.arange(numerology.data_cells)
    places[numerology.pilot_places] = -1 - np.arange(len(numerology.pilot_places))
    return places


def symbols(
    samples: ComplexArray,
    numerology: Numerology,
    *,
    first: int,
    timing: Timing,
    data: ComplexArray,
    tones: ComplexArray,
) -> None:
    """Cells of consecutive OFDM symbols, scaled so that a cell sent as 1 is 1.

    Parameters
    ----------
    samples : (n,) complex64
        From the burst's start on.
    numerology : Numerology
    first : int
        Sample of the burst at which the first symbol's prefix begins.
    timing : Timing
    data : (S, data_cells) complex64
        Receives the data cells in the order of sending.
    tones : (S, 8) complex64
        Receives the pilots.
    """
    size = numerology.fft_size
    offsets = first + PREFIX + numerology.symbol_length * np.arange(len(data), dtype=np.float64)
    spectrum = np.fft.fft(cut(samples, offsets, size, timing)).astype(np.complex64, copy=False)
    late = offsets * (1.0 + timing.drift) - _whole(offsets, timing)  # the window is too early
    scale = math.sqrt(numerology.used) / size
    _place(spectrum, 2.0 * math.pi / size * late, scale, _places(numerology), data, tones)
