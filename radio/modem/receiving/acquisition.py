r"""Finds the start of a burst in a stream: timing and coarse carrier offset.

The search is that of the sounding room: a matched filter over the sync part, divided by the energy
in its window. While the offset of the transmitter is known one filter is enough. At first contact
the two equal halves open the gate: where

.. math:: \rho = \frac{\left|\sum_n y_n^* y_{n+128}\right|}
                      {\sqrt{\sum_n |y_n|^2 \sum_n |y_{n+128}|^2}}

is large, its angle gives the offset up to multiples of 1/128 of the sample rate, and the matched
filter decides between these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.modem.framing.preamble import SYNC_LENGTH
from siftmoe.radio.sounding import bounds, pilots
from siftmoe.radio.sounding.sync import first_lag, matched_filter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ComplexArray = NDArray[np.complex64]
    FloatArray = NDArray[np.float64]

_HALF = pilots.HALF
_SYNC = pilots.SYNC_LENGTH
#: Samples after a first peak in which a stronger one is looked for: one half may match early.
_REACH = _SYNC + pilots.MAX_TAPS
#: Samples that a burst must have behind a candidate's position for a decision.
LOOK_AHEAD = _REACH + _SYNC
#: Correlation of the halves that opens the gate; noise exceeds it with probability 3e-4.
_GATE = 0.25
#: Longest stretch of one matched filter: its transforms fit the cache.
_BLOCK = 4096 - LOOK_AHEAD


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquired:
    """Start of a burst.

    Parameters
    ----------
    start : int
        Sample of the array at which the burst starts, for taps at the lags 0 to 15.
    turn : float, rad/sample
        Carrier offset by the repetition of the halves.
    metric : float
        Of the matched filter, 0 to 256.
    """

    start: int
    turn: float
    metric: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquisition:
    """Search for the bursts of one transmitter.

    Parameters
    ----------
    sequence : int
        Of the transmitter's preamble.
    turn : float or None, rad/sample
        Its carrier offset; None if it is not known yet.
    turn_range : float, rad/sample
        Largest offset at first contact.
    false_alarm : float
        Probability of a false alarm at one sample of noise.
    """

    sequence: int
    turn: float | None
    turn_range: float
    false_alarm: float = 1e-10

    def find(self, samples: ComplexArray, first: int) -> tuple[Acquired | None, int]:
        """Find the next burst.

        Parameters
        ----------
        samples : (n,) complex64
        first : int
            Sample at which the search starts.

        Returns
        -------
        Acquired or None
        int
            Sample at which a search goes on when more have arrived.
        """
        if self.turn is None:
            return self._first_contact(samples, first)
        threshold = bounds.metric_threshold(self.false_alarm)
        end = len(samples) - LOOK_AHEAD
        while first < end:
            stop = min(first + _BLOCK, end)
            metric = self._metric(samples[first : stop + LOOK_AHEAD], self.turn)
            above = np.flatnonzero(metric[: stop - first] > threshold)
            if len(above):
                found = self._decide(samples, first, metric, int(above[0]), self.turn)
                return found, first + int(above[0])
            first = stop
        return None, first

    def _metric(self, samples: ComplexArray, turn: float) -> FloatArray:
        return matched_filter(
            samples.astype(np.complex128), cfo=turn / (2.0 * math.pi), sequence=self.sequence
        )

    def _decide(
        self, samples: ComplexArray, first: int, metric: FloatArray, candidate: int, turn: float
    ) -> Acquired:
        """Return timing and offset at the strongest peak within reach of a candidate."""
        peak = candidate + int(metric[candidate : candidate + _REACH].argmax())
        position = first + peak
        angle = _repetition(samples[position : position + _SYNC])
        turns = round((turn * _HALF - angle) / (2.0 * math.pi))
        return Acquired(
            start=position + first_lag(metric, peak) - pilots.PREFIX,
            turn=(angle + 2.0 * math.pi * turns) / _HALF,
            metric=float(metric[peak]),
        )

    def _first_contact(self, samples: ComplexArray, first: int) -> tuple[Acquired | None, int]:
        end = len(samples) - 2 * LOOK_AHEAD
        step = 4 * _BLOCK
        while first < end:
            stop = min(first + step, end)
            share, angle = _correlation(samples[first : stop + LOOK_AHEAD])
            open_at = np.flatnonzero(share[: stop - first] > _GATE)
            while len(open_at):
                gate = int(open_at[0])
                best = gate + int(share[gate : gate + _HALF + pilots.PREFIX].argmax())
                found = self._any_turn(samples, first + best, float(angle[best]))
                if found is not None:
                    return found, first + gate
                open_at = open_at[open_at > best + pilots.PREFIX]
            first = stop
        return None, first

    def _any_turn(self, samples: ComplexArray, near: int, angle: float) -> Acquired | None:
        """Decide between the offsets that an angle of the halves leaves open."""
        begin = max(near - _REACH, 0)
        part = samples[begin : near + _REACH + _SYNC]
        side = math.ceil(self.turn_range * _HALF / (2.0 * math.pi))
        threshold = bounds.metric_threshold(self.false_alarm)
        best: tuple[float, float, FloatArray] | None = None
        for number in range(-side, side + 1):
            turn = (angle + 2.0 * math.pi * number) / _HALF
            metric = self._metric(part, turn)
            if best is None or metric.max() > best[0]:
                best = float(metric.max()), turn, metric
        if best is None or best[0] <= threshold:
            return None
        _, turn, metric = best
        peak = int(metric.argmax())
        return self._decide(samples, begin, metric, peak, turn)


def _repetition(halves: ComplexArray) -> float:
    """Angle by which the second half is turned against the first."""
    return float(np.angle(np.vdot(halves[:_HALF], halves[_HALF:])))


def _correlation(samples: ComplexArray) -> tuple[FloatArray, FloatArray]:
    """Correlation of the halves at every position: share of the energy, and angle."""
    product = samples[:-_HALF].conj() * samples[_HALF:]
    total = np.concatenate([[0.0], np.cumsum(product, dtype=np.complex128)])
    matched = total[_HALF:] - total[:-_HALF]
    power = (samples.real**2 + samples.imag**2).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(power)])
    energy = np.maximum(sums[_HALF:] - sums[:-_HALF], 1e-9 * sums[-1] / len(samples) + 1e-30)
    both = np.sqrt(energy[: len(matched)] * energy[_HALF : _HALF + len(matched)])
    return np.abs(matched) / both, np.angle(matched)


#: Samples before a position that belong to the burst whose halves start there.
LEAD = SYNC_LENGTH - _SYNC
