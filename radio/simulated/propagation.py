"""What a transmission contributes to the field at a receiver: emission, path, carrier offset."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.channel.multipath import PathResponse
    from siftmoe.radio.device import RadioSettings
    from siftmoe.radio.simulated.timeline import Timeline
    from siftmoe.radio.simulated.transmission import Transmission

    ComplexArray = NDArray[np.complex128]

#: Fading is held for so many samples: 32 us at 2 MS/s.
FADING_HOLD: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The stretch of the clock that a range of a receiver's samples needs of a transmitter.

    Parameters
    ----------
    start, count : int
        The receiver's range.
    first : int
        Start of the first hold of the fading: its grid is that of the air's clock.
    holds : int
    since, until : int
        Range of the transmitter's samples.
    """

    start: int
    count: int
    first: int
    holds: int
    since: int
    until: int

    @classmethod
    def around(cls, path: PathResponse, *, start: int, count: int) -> Span:
        """Span of a receiver's range over a path."""
        first = start - start % FADING_HOLD
        holds = -(-(start + count - first) // FADING_HOLD)
        return cls(
            start=start,
            count=count,
            first=first,
            holds=holds,
            since=first - int(path.lags.max()),
            until=first + holds * FADING_HOLD - int(path.lags.min()),
        )


def emissions(
    sent: Timeline[Transmission | None], span: Span
) -> dict[tuple[RadioSettings, complex], ComplexArray]:
    """Group the samples sent in a span by settings and phase."""
    found: dict[tuple[RadioSettings, complex], ComplexArray] = {}
    for since, until, piece in sent.pieces(span.since, span.until):
        if piece is not None:
            key = (piece.settings, piece.phase)
            if key not in found:
                found[key] = np.zeros(span.until - span.since, dtype=np.complex128)
            found[key][since - span.since : until - span.since] = piece.emitted(since, until)
    return found


def propagated(
    emitted: ComplexArray,
    path: PathResponse,
    span: Span,
    *,
    scale: complex,
    turn: float,
    sample_rate_hz: float,
) -> ComplexArray:
    """Field of emitted samples after a path, (count,).

    Parameters
    ----------
    emitted : (until - since,) complex
    path : PathResponse
    span : Span
    scale : complex
        Amplitude and phase at the transmitter.
    turn : float
        Carrier offset, cycles per sample.
    sample_rate_hz : float, Hz
    """
    grid = span.first + FADING_HOLD * np.arange(span.holds)
    impulse = path.impulse(grid / sample_rate_hz)  # [holds, J]
    impulse *= scale * _phasors(turn, grid)[:, np.newaxis]
    total = np.zeros((span.holds, FADING_HOLD), dtype=np.complex128)
    early = int(path.lags.max())
    for column, lag in enumerate(path.lags):
        shifted = emitted[early - lag :][: span.holds * FADING_HOLD]
        total += impulse[:, column, np.newaxis] * shifted.reshape(span.holds, FADING_HOLD)
    total *= _phasors(turn, np.arange(FADING_HOLD))
    return np.asarray(total.reshape(-1)[span.start - span.first :][: span.count])


def _phasors(turn: float, clocks: NDArray[np.int64]) -> ComplexArray:
    return np.asarray(np.exp(2j * math.pi * np.mod(turn * clocks, 1.0)))
