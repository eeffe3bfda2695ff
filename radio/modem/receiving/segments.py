"""Known symbols at the start of a burst, and what is fitted to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.modem.receiving.tracking import PhaseState, smooth

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.modem.receiving.response import Comb, TapSums

    Cells = NDArray[np.complex64]
    FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One known symbol of the start.

    Parameters
    ----------
    time : float
        Its middle, samples since the burst's start.
    comb : Comb
        Its carriers.
    sent, received : (K,) complex64
    """

    time: float
    comb: Comb
    sent: Cells
    received: Cells


def sums_of(segments: list[Segment], phases: FloatArray) -> TapSums:
    """Return the normal equations of segments whose phases are known."""
    parts = []
    for segment, phase in zip(segments, phases, strict=True):
        matched = segment.sent.conj() * segment.received * np.complex64(np.exp(-1j * phase))
        power = np.abs(segment.sent) ** 2
        parts.append(segment.comb.sums(matched, power, count=float(len(power))))
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total


def level_of(sums: TapSums, segments: list[Segment], phases: FloatArray) -> tuple[float, float]:
    """Mean square of the response, and noise variance of a cell, from what does not fit."""
    taps = sums.taps()
    errors, count, gain = 0.0, 0, 0.0
    for segment, phase in zip(segments, phases, strict=True):
        response = segment.comb.response(taps)
        turned = segment.received * np.complex64(np.exp(-1j * phase))
        errors += float(np.sum(np.abs(turned - response * segment.sent) ** 2))
        count += len(turned)
        gain = float(np.mean(np.abs(response) ** 2))
    return gain, max(errors / (count - len(taps)), 1e-9 * gain, 1e-30)


def phases_of(
    segments: list[Segment], sums: TapSums, state: PhaseState, noise: float, walk: float
) -> tuple[FloatArray, PhaseState]:
    """Smoothed phases of segments against a response."""
    taps = sums.taps()
    expected = [s.comb.response(taps) * s.sent for s in segments]
    matched = [np.vdot(e, s.received) for e, s in zip(expected, segments, strict=True)]
    energy = [float(np.vdot(e, e).real) / noise for e in expected]
    times = np.array([s.time for s in segments])
    return smooth(
        state,
        times=times,
        matched=np.array(matched, np.complex128),
        energy=np.array(energy),
        walk=walk,
        passed=len(times),
    )
