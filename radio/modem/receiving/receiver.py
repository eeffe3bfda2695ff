"""The receiver: samples of one transmitter's carrier in, receptions out.

It has no radio, no thread and no clock: feed it samples in order, in pieces of any size. It decodes
each block when its last sample has arrived. Damaged samples end in a lost burst or block, which is
counted; only samples that are no numbers raise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.errors import BadSamples, HeaderInvalid
from siftmoe.radio.modem.framing.carriers import SHORT
from siftmoe.radio.modem.receiving.acquisition import Acquisition
from siftmoe.radio.modem.receiving.memory import Partial, SoftMemory
from siftmoe.radio.modem.receiving.opening import MARGIN, Opened, open_burst
from siftmoe.radio.modem.receiving.payload import PayloadReader
from siftmoe.radio.modem.receiving.reception import Reception
from siftmoe.radio.modem.receiving.settings import Counters, Settings
from siftmoe.radio.modem.receiving.stream import Stream
from siftmoe.radio.modem.receiving.tracking import frequency_walk
from siftmoe.radio.sounding import pilots

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.modem.framing.header import Header

    Samples = NDArray[np.complex64]

#: Magnitude of a sample, relative to full scale, that no receiver delivers.
_LARGEST = 1e3
#: Samples before a search that are kept: a burst starts up to its prefix and taps before its peak.
_KEPT = pilots.PREFIX + pilots.MAX_TAPS
#: Samples after a false detection at which the search goes on.
_SKIP = pilots.HALF
#: Headers in a row that may fail before the carrier offset is searched again.
_FAILURES = 4
#: Change of the carrier offset that the search does not follow, rad/sample: a new offset costs it a
#: new template.
_SAME_TURN = 1e-4


@dataclass(slots=True, kw_only=True)
class _Burst:
    """A burst that is being received."""

    start: int
    turn: float
    opened: Opened | None = None
    reader: PayloadReader | None = None
    partial: Partial | None = None


class Receiver:
    """Receives the bursts of one transmitter.

    Parameters
    ----------
    settings : Settings
    memory : SoftMemory or None
        Of payloads that lack blocks.
    """

    def __init__(self, settings: Settings, memory: SoftMemory | None = None) -> None:
        self._settings = settings
        self._memory = SoftMemory() if memory is None else memory
        self._walk = frequency_walk(settings.doppler_hz, settings.sample_rate_hz)
        self._turn = None if settings.cfo_hz is None else settings.turn(settings.cfo_hz)
        self._stream = Stream()
        self._position = 0  # sample of the array at which the search goes on
        self._burst: _Burst | None = None
        self._failures = 0
        self._last_header = 0  # sample of the stream
        self.counters = Counters()

    @property
    def cfo_hz(self) -> float | None:
        """Carrier offset of the transmitter; None before the first burst."""
        if self._turn is None:
            return None
        return self._turn * self._settings.sample_rate_hz / (2.0 * math.pi)

    def feed(self, samples: NDArray[np.complexfloating]) -> list[Reception]:
        """Take the next samples of the stream.

        Parameters
        ----------
        samples : (n,) complex
            Full scale 1.

        Returns
        -------
        list of Reception
            Bursts that ended within these samples; one whose header was lost is not among them.

        Raises
        ------
        ValueError
            If the samples are no row of complex numbers.
        BadSamples
            If one is not finite. The samples are not used, and a burst in progress is lost.
        """
        if samples.ndim != 1 or not np.iscomplexobj(samples):
            raise ValueError(f"receiver: samples must be a complex row, got {samples.shape}")
        parts = np.ascontiguousarray(samples).view(samples.real.dtype)
        if not np.abs(parts).max(initial=0.0) <= _LARGEST:  # not a number compares as false
            self.reset()
            raise BadSamples(
                f"receiver: a sample is not finite or beyond {_LARGEST:g} times full scale; "
                "the burst in progress is lost"
            )
        self._stream.append(samples)
        receptions: list[Reception] = []
        while self._step(receptions):
            pass
        self._drop()
        return receptions

    def reset(self) -> None:
        """Forget the samples that are held, after a gap in the stream; offsets are kept."""
        self._stream.drop(len(self._stream.samples))
        self._position = 0
        self._burst = None

    def _step(self, receptions: list[Reception]) -> bool:
        """Take one step; False if it needs more samples."""
        if self._burst is None:
            return self._search()
        if self._burst.opened is None:
            return self._open(self._burst, receptions)
        return self._read(self._burst, receptions)

    def _search(self) -> bool:
        first = self._position
        found, self._position = self._acquisition(self._turn).find(self._stream.samples, first)
        if found is None and self._turn is not None and self._silent:
            wide, position = self._acquisition(None).find(self._stream.samples, first)
            found, self._position = wide, min(position, self._position)
        if found is None:
            return False
        self.counters.detected += 1
        self._burst = _Burst(start=max(found.start, 0), turn=found.turn)
        return True

    def _acquisition(self, turn: float | None) -> Acquisition:
        settings = self._settings
        return Acquisition(
            sequence=settings.form.sequence,
            turn=turn,
            turn_range=settings.turn(settings.cfo_range_hz),
        )

    @property
    def _silent(self) -> bool:
        """Whether there was no header for so long that the offset may have moved."""
        since = self._stream.base + self._position - self._last_header
        return since > self._settings.patience_s * self._settings.sample_rate_hz

    def _open(self, burst: _Burst, receptions: list[Reception]) -> bool:
        """Read the header of a burst once it is there."""
        settings = self._settings
        if len(self._stream.samples) < burst.start + settings.form.payload_start + MARGIN:
            return False
        try:
            opened = open_burst(
                self._stream.samples[burst.start :],
                burst.turn,
                settings.form,
                drift_per_turn=settings.drift_per_turn,
                walk=self._walk,
            )
        except HeaderInvalid:
            self._miss(burst)
            return True
        self._failures = 0
        self._last_header = self._stream.base + burst.start
        self.counters.headers += 1
        turn = opened.timing.turn
        if self._turn is None or abs(turn - self._turn) > _SAME_TURN:
            self._turn = turn
        burst.opened = opened
        if opened.layout is None:
            receptions.append(self._finish(burst, opened))
            return True
        burst.partial = self._memory.open(opened.header, now=self._stream.base + burst.start)
        burst.reader = PayloadReader(
            opened,
            settings.form,
            burst.partial,
            walk=self._walk,
            iterations=settings.iterations,
        )
        return True

    def _miss(self, burst: _Burst) -> None:
        """Go on after a header that was not read; the offset may have moved away."""
        self._failures += 1
        if self._failures >= _FAILURES:
            self._turn, self._failures = None, 0
        self._position = burst.start + _KEPT + _SKIP
        self._burst = None

    def _read(self, burst: _Burst, receptions: list[Reception]) -> bool:
        """Decode the next block of a burst once it is there."""
        reader, opened = burst.reader, burst.opened
        if reader is None or opened is None:
            raise RuntimeError("receiver: a burst without a reader")
        if len(self._stream.samples) < burst.start + reader.needed:
            return False
        report = reader.read_block(self._stream.samples[burst.start :])
        self.counters.blocks += report.received
        self.counters.lost_blocks += not report.received
        if reader.done:
            receptions.append(self._finish(burst, opened))
        return True

    def _finish(self, burst: _Burst, opened: Opened) -> Reception:
        header, reader = opened.header, burst.reader
        length = self._settings.form.length(header)
        payload, missing = self._payload(header, burst)
        self.counters.payloads += payload is not None
        taps = opened.sums.taps() if reader is None else reader.taps
        reception = Reception(
            header=header,
            payload=payload,
            missing=missing,
            blocks=() if reader is None else tuple(reader.reports),
            start=self._stream.base + burst.start,
            samples=length,
            cfo_hz=opened.timing.turn * self._settings.sample_rate_hz / (2.0 * math.pi),
            gain=band_gain(taps),
            noise=opened.noise if reader is None else reader.noise,
            taps=taps,
        )
        self._burst = None
        self._position = burst.start + length - MARGIN
        return reception

    def _payload(self, header: Header, burst: _Burst) -> tuple[bytes | None, tuple[int, ...]]:
        if burst.reader is None or burst.partial is None:
            return b"", ()
        segmentation, blocks = burst.reader.layout.segmentation, burst.partial.blocks
        missing = tuple(b for b in range(segmentation.count) if b not in blocks)
        if missing:
            return None, missing
        self._memory.close(header)
        return segmentation.join([blocks[b] for b in range(segmentation.count)]), ()

    def _drop(self) -> None:
        """Forget the samples that nothing needs any more."""
        first = self._position - _KEPT if self._burst is None else self._burst.start
        dropped = self._stream.drop(max(first, 0))
        self._position -= dropped
        if self._burst is not None:
            self._burst.start -= dropped


def band_gain(taps: NDArray[np.complex128]) -> float:
    """Mean square of the response of taps over the carriers in use."""
    spectrum = np.fft.fft(taps, SHORT.fft_size)[SHORT.carriers]
    return float(np.mean(np.abs(spectrum) ** 2))
