"""Cuts the bodies of symbols out of received samples, with carrier offset and clock drift removed.

Both offsets come from one oscillator: a carrier that is off by a fraction d has a sample clock that
is off by d, so that a symbol n samples after the burst's start begins at n (1 - d). Whole samples
move the window, the rest turns the carriers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.radio.compiled import compiled
from siftmoe.radio.modem.framing.carriers import PREFIX

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


def symbols(
    samples: ComplexArray, numerology: Numerology, *, first: int, count: int, timing: Timing
) -> ComplexArray:
    """Carriers of consecutive OFDM symbols.

    Parameters
    ----------
    samples : (n,) complex64
        From the burst's start on.
    numerology : Numerology
    first : int
        Sample of the burst at which the first symbol's prefix begins.
    count : int
    timing : Timing

    Returns
    -------
    (count, used) complex64
    """
    offsets = first + PREFIX + numerology.symbol_length * np.arange(count, dtype=np.float64)
    received = numerology.demodulate(cut(samples, offsets, numerology.fft_size, timing))
    late = offsets * (1.0 + timing.drift) - _whole(offsets, timing)  # the window is too early
    if np.abs(late).max(initial=0.0) < 1e-3:
        return received
    ramp = np.exp(2j * math.pi / numerology.fft_size * np.outer(late, numerology.carriers))
    return np.asarray(received * ramp, np.complex64)
