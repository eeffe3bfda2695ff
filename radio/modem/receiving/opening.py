"""The start of a burst: response, carrier offset and noise from the preamble, then the header.

The response is fitted to the sync part. From there a phase filter goes through pilot symbols and
header; the coarse offset's uncertainty is its prior. A header that does not decode is tried again
at offsets 1.5 standard deviations to either side. Once it is decoded its symbols are pilots too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.errors import HeaderInvalid
from siftmoe.radio.modem.coding.code import SOFT_SCALE
from siftmoe.radio.modem.framing.carriers import PREFIX, SHORT
from siftmoe.radio.modem.framing.header import (
    HEADER_SYMBOLS,
    SENT_BITS,
    header_cells,
    header_code,
    parse,
)
from siftmoe.radio.modem.framing.layout import Layout, layout_of
from siftmoe.radio.modem.framing.preamble import PILOT_LENGTH, SYNC_LENGTH
from siftmoe.radio.modem.receiving.response import TapSums, tap_sums, waves
from siftmoe.radio.modem.receiving.tracking import PhaseState, smooth
from siftmoe.radio.modem.receiving.windows import Timing, cut, symbols
from siftmoe.radio.modem.symbols.demapper import demap
from siftmoe.radio.sounding import pilots

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.modem.framing.header import Header
    from siftmoe.radio.modem.transmitter import Format

    Cells = NDArray[np.complex64]
    ComplexArray = NDArray[np.complex128]
    FloatArray = NDArray[np.float64]

#: Middle of the two halves.
_SYNC_CENTRE = pilots.PREFIX + 0.5 * pilots.SYNC_LENGTH
#: Offsets that are tried for a header, in standard deviations of the coarse offset.
_TRIES = (0.0, 1.5, -1.5)
#: Samples that are cut beyond the last symbol's own, for clock drift.
MARGIN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One known symbol of the start.

    Parameters
    ----------
    time : float
        Its middle, samples since the burst's start.
    basis : (K, 16) complex64
        Waves of its carriers.
    sent, received : (K,) complex64
    """

    time: float
    basis: Cells
    sent: Cells
    received: Cells


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A burst whose header was read.

    Parameters
    ----------
    header : Header
    layout : Layout or None
        Of the payload.
    timing : Timing
        With the refined offset.
    state : PhaseState
        At the end of the header.
    sums : TapSums
        Of all that is known so far.
    noise : float
        Variance of a cell.
    header_amplitude : float
        Of the header relative to the preamble.
    """

    header: Header
    layout: Layout | None
    timing: Timing
    state: PhaseState
    sums: TapSums
    noise: float
    header_amplitude: float


@lru_cache(maxsize=1)
def _bases() -> tuple[Cells, Cells]:
    """Waves at the carriers of a sync half, and of all symbols of 256."""
    return waves(pilots.sync_carriers() / pilots.HALF), waves(SHORT.carriers / SHORT.fft_size)


def open_burst(
    samples: Cells, turn: float, form: Format, *, drift_per_turn: float, walk: float
) -> Opened:
    """Read the header of a burst.

    Parameters
    ----------
    samples : (n,) complex64
        From the burst's start to ``MARGIN`` samples behind the header at least.
    turn : float, rad/sample
        Coarse carrier offset.
    form : Format
    drift_per_turn : float
        Clock drift per rad/sample of carrier offset.
    walk : float
        See `tracking.frequency_walk`.

    Raises
    ------
    HeaderInvalid
        If no header decodes, or it says what is impossible.
    """
    timing = Timing(turn=turn, drift=turn * drift_per_turn)
    known = _preamble_segments(samples, timing, form)
    sums = _sums(known[:2], np.zeros(2))
    gain, noise = _level(sums, known[:2], np.zeros(2))
    prior = _prior(gain / noise)
    heads = symbols(
        samples, SHORT, first=form.header_start, count=HEADER_SYMBOLS, timing=timing
    )
    for deviations in _TRIES:
        first = replace(prior, turn=deviations * math.sqrt(prior.covariance[2]))
        header = _try_header(known, heads, form, first, sums, noise, walk)
        if header is not None:
            return _refine(known, heads, header, form, timing, prior, noise, walk, drift_per_turn)
    raise HeaderInvalid("header: no checksum holds at any of the offsets")


def _preamble_segments(samples: Cells, timing: Timing, form: Format) -> list[Segment]:
    """Halves and pilot symbols as received."""
    half_basis, basis = _bases()
    halves = cut(samples, np.array([32.0, 160.0]), pilots.HALF, timing)
    carriers = np.fft.fft(halves)[:, pilots.sync_carriers()]
    carriers = (carriers * (math.sqrt(carriers.shape[1]) / pilots.HALF)).astype(np.complex64)
    sent = pilots.sync_symbols(form.sequence).astype(np.complex64)
    segments = [
        Segment(time=s.centre, basis=half_basis, sent=sent, received=c)
        for s, c in zip(pilots.sync_segments(), carriers, strict=True)
    ]
    firsts = SYNC_LENGTH + pilots.PREFIX + PILOT_LENGTH * np.arange(float(form.pilot_symbols))
    bodies = cut(samples, firsts, SHORT.fft_size, timing)
    sent = pilots.pilot_symbols(form.sequence).astype(np.complex64)
    for first, received in zip(firsts, SHORT.demodulate(bodies), strict=True):
        time = float(first) + 0.5 * SHORT.fft_size
        segments.append(Segment(time=time, basis=basis, sent=sent, received=received))
    return segments


def _header_segments(heads: Cells, sent: Cells, form: Format) -> list[Segment]:
    times = (
        form.header_start
        + PREFIX
        + 0.5 * SHORT.fft_size
        + SHORT.symbol_length * np.arange(HEADER_SYMBOLS)
    )
    return [
        Segment(time=float(t), basis=_bases()[1], sent=s, received=r)
        for t, s, r in zip(times, sent, heads, strict=True)
    ]


def _sums(segments: list[Segment], phases: FloatArray) -> TapSums:
    """Normal equations of segments whose phases are known."""
    parts = []
    for segment, phase in zip(segments, phases, strict=True):
        matched = segment.sent.conj() * segment.received * np.complex64(np.exp(-1j * phase))
        power = np.abs(segment.sent) ** 2
        parts.append(tap_sums(segment.basis, matched, power, count=float(np.count_nonzero(power))))
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total


def _level(sums: TapSums, segments: list[Segment], phases: FloatArray) -> tuple[float, float]:
    """Mean square of the response, and noise variance of a cell, from what does not fit."""
    taps = sums.taps(1e-3 * sums.count)
    errors, count, gain = 0.0, 0, 0.0
    for segment, phase in zip(segments, phases, strict=True):
        response = segment.basis @ taps
        turned = segment.received * np.exp(-1j * phase)
        used = segment.sent != 0
        errors += float(np.sum(np.abs(turned - response * segment.sent)[used] ** 2))
        count += int(used.sum())
        gain = float(np.mean(np.abs(response) ** 2))
    return gain, max(errors / (count - len(taps)), 1e-9 * gain, 1e-30)


def _prior(snr: float) -> PhaseState:
    """Phase and offset after the sync part, with the uncertainty of the repetition [D]."""
    per_sample = snr * pilots.USED_CARRIERS / pilots.FFT_SIZE
    angle = (1.0 / per_sample + 0.5 / per_sample**2) / pilots.HALF
    angle = min(angle, 1.0)
    cells = pilots.USED_CARRIERS * max(snr, 1e-3)
    covariance = np.array([0.5 / cells, 0.0, angle / pilots.HALF**2])
    return PhaseState(time=_SYNC_CENTRE, phase=0.0, turn=0.0, covariance=covariance)


def _phases(
    segments: list[Segment], sums: TapSums, state: PhaseState, noise: float, walk: float
) -> tuple[FloatArray, PhaseState]:
    """Smoothed phases of segments against a response."""
    taps = sums.taps(1e-3 * sums.count)
    expected = [s.basis @ taps * s.sent for s in segments]
    matched = [np.vdot(e, s.received) for e, s in zip(expected, segments, strict=True)]
    energy = [float(np.vdot(e, e).real) / noise for e in expected]
    times = np.array([s.time for s in segments])
    return smooth(
        state, times=times, matched=np.array(matched), energy=np.array(energy), walk=walk
    )


def _try_header(
    known: list[Segment],
    heads: Cells,
    form: Format,
    prior: PhaseState,
    sums: TapSums,
    noise: float,
    walk: float,
) -> Header | None:
    """Decode a header with a given prior of the offset; None if its checksum does not hold."""
    tones = np.zeros_like(heads)
    tones[:, SHORT.pilot_places] = SHORT.pilots
    later = [*known[2:], *_header_segments(heads, tones, form)]
    phases, _ = _phases(later, sums, prior, noise, walk)
    if known[2:]:
        pilot_phases = phases[: len(known) - 2]
        sums = sums + _sums(known[2:], pilot_phases)
    response = (_bases()[1] @ sums.taps(1e-3 * sums.count)).astype(np.complex64)
    turned = heads * np.exp(-1j * phases[-HEADER_SYMBOLS:, None]).astype(np.complex64)
    places = SHORT.data_places
    soft = demap(
        turned[:, places].reshape(-1),
        np.tile(response[places], HEADER_SYMBOLS),
        noise=noise,
        order=2,
        scale=SOFT_SCALE,
    )
    code = header_code()
    totals = code.blank()
    code.add(totals, soft, version=0, bits_per_symbol=2)
    decoded = code.decode(totals, rows=code.rows(SENT_BITS, 0))
    if not decoded.consistent:
        return None
    return _read(decoded.word.reshape(-1)[: code.payload].astype(np.uint8))


def _read(bits: NDArray[np.uint8]) -> Header | None:
    try:
        return parse(bits)
    except HeaderInvalid:
        return None


def _refine(
    known: list[Segment],
    heads: Cells,
    header: Header,
    form: Format,
    timing: Timing,
    prior: PhaseState,
    noise: float,
    walk: float,
    drift_per_turn: float,
) -> Opened:
    """Response, offset and noise from preamble and decoded header."""
    try:
        layout = layout_of(header)
    except ValueError as error:
        raise HeaderInvalid(str(error)) from error
    sent = np.empty_like(heads)
    sent[:, SHORT.pilot_places] = SHORT.pilots
    sent[:, SHORT.data_places] = header_cells(header)
    sums = _sums(known[:2], np.zeros(2))
    amplitude = _amplitude(heads, sent, sums)
    segments = [*known, *_header_segments(heads, (sent * amplitude).astype(np.complex64), form)]
    state = replace(prior, time=known[0].time)
    state = replace(state, covariance=prior.covariance + np.array([1.0, 0.0, 0.0]))
    for _ in range(2):
        phases, after = _phases(segments, sums, state, noise, walk)
        sums = _sums(segments, phases)
        _, noise = _level(sums, segments, phases)
    turn = timing.turn + after.turn
    refined = Timing(turn=turn, drift=turn * drift_per_turn)
    # The payload is cut with the refined offset; its phase is 0 at the start of the burst.
    after = replace(after, phase=after.phase - after.turn * after.time, turn=0.0)
    return Opened(
        header=header,
        layout=layout,
        timing=refined,
        state=after,
        sums=sums,
        noise=noise,
        header_amplitude=amplitude,
    )


def _amplitude(heads: Cells, sent: Cells, sums: TapSums) -> float:
    """Amplitude of the header over that of the preamble."""
    expected = (_bases()[1] @ sums.taps(1e-3 * sums.count)) * sent
    matched = np.abs(np.sum(expected.conj() * heads, axis=1))
    return float(matched.sum() / np.sum(np.abs(expected) ** 2))
