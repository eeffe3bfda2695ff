"""The start of a burst: response, carrier offset and noise from the preamble, then the header.

The response is fitted to the sync part. From there a phase filter goes through pilot symbols and
header; the coarse offset's uncertainty is its prior. A header that does not decode is tried again
at offsets 1.5 standard deviations to either side. Once it is decoded its symbols are pilots too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
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
from siftmoe.radio.modem.receiving.response import Comb, TapSums
from siftmoe.radio.modem.receiving.segments import Segment, level_of, phases_of, sums_of
from siftmoe.radio.modem.receiving.tracking import PhaseState
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
_HALF_COMB = Comb(pilots.HALF, pilots.sync_carriers())
_COMB = Comb(SHORT.fft_size, SHORT.carriers)
#: Samples that are cut beyond the last symbol's own, for clock drift.
MARGIN = 8


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
    sums = sums_of(known[:2], np.zeros(2))
    gain, noise = level_of(sums, known[:2], np.zeros(2))
    prior = _prior(gain / noise)
    heads = _header_carriers(samples, form, timing)
    for deviations in _TRIES:
        first = replace(prior, turn=deviations * math.sqrt(prior.covariance[2]))
        header = _try_header(known, heads, form, first, sums, noise, walk)
        if header is not None:
            return _refine(known, heads, header, form, timing, prior, noise, walk, drift_per_turn)
    raise HeaderInvalid("header: no checksum holds at any of the offsets")


def _header_carriers(samples: Cells, form: Format, timing: Timing) -> Cells:
    """Carriers of the header's symbols as received, (2, 200)."""
    data = np.empty((HEADER_SYMBOLS, SHORT.data_cells), np.complex64)
    tones = np.empty((HEADER_SYMBOLS, len(SHORT.pilots)), np.complex64)
    symbols(samples, SHORT, first=form.header_start, timing=timing, data=data, tones=tones)
    heads = np.empty((HEADER_SYMBOLS, SHORT.used), np.complex64)
    heads[:, SHORT.data_places], heads[:, SHORT.pilot_places] = data, tones
    return heads


def _preamble_segments(samples: Cells, timing: Timing, form: Format) -> list[Segment]:
    """Halves and pilot symbols as received."""
    halves = cut(samples, np.array([32.0, 160.0]), pilots.HALF, timing)
    carriers = np.fft.fft(halves)[:, pilots.sync_carriers()]
    carriers = (carriers * (math.sqrt(carriers.shape[1]) / pilots.HALF)).astype(np.complex64)
    sent = pilots.sync_symbols(form.sequence).astype(np.complex64)
    segments = [
        Segment(time=s.centre, comb=_HALF_COMB, sent=sent, received=c)
        for s, c in zip(pilots.sync_segments(), carriers, strict=True)
    ]
    firsts = SYNC_LENGTH + pilots.PREFIX + PILOT_LENGTH * np.arange(float(form.pilot_symbols))
    bodies = cut(samples, firsts, SHORT.fft_size, timing)
    sent = pilots.pilot_symbols(form.sequence).astype(np.complex64)
    for first, received in zip(firsts, SHORT.demodulate(bodies), strict=True):
        time = float(first) + 0.5 * SHORT.fft_size
        segments.append(Segment(time=time, comb=_COMB, sent=sent, received=received))
    return segments


def _header_segments(heads: Cells, sent: Cells, form: Format) -> list[Segment]:
    times = (
        form.header_start
        + PREFIX
        + 0.5 * SHORT.fft_size
        + SHORT.symbol_length * np.arange(HEADER_SYMBOLS)
    )
    return [
        Segment(time=float(t), comb=_COMB, sent=s, received=r)
        for t, s, r in zip(times, sent, heads, strict=True)
    ]


def _prior(snr: float) -> PhaseState:
    """Phase and offset after the sync part, with the uncertainty of the repetition [D]."""
    snr = max(snr, 1e-3)
    per_sample = snr * pilots.USED_CARRIERS / pilots.FFT_SIZE
    angle = (1.0 / per_sample + 0.5 / per_sample**2) / pilots.HALF
    angle = min(angle, 1.0)
    cells = pilots.USED_CARRIERS * snr
    covariance = np.array([0.5 / cells, 0.0, angle / pilots.HALF**2])
    return PhaseState(time=_SYNC_CENTRE, phase=0.0, turn=0.0, covariance=covariance)


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
    phases, _ = phases_of(later, sums, prior, noise, walk)
    if known[2:]:
        pilot_phases = phases[: len(known) - 2]
        sums = sums + sums_of(known[2:], pilot_phases)
    response = _COMB.response(sums.taps())
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
    sums = sums_of(known[:2], np.zeros(2))
    amplitude = _amplitude(heads, sent, sums)
    segments = [*known, *_header_segments(heads, (sent * amplitude).astype(np.complex64), form)]
    state = replace(prior, time=known[0].time)
    state = replace(state, covariance=prior.covariance + np.array([1.0, 0.0, 0.0]))
    for _ in range(2):
        phases, after = phases_of(segments, sums, state, noise, walk)
        sums = sums_of(segments, phases)
        _, noise = level_of(sums, segments, phases)
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
    expected = _COMB.response(sums.taps()) * sent
    matched = np.abs(np.sum(expected.conj() * heads, axis=1))
    return float(matched.sum() / np.sum(np.abs(expected) ** 2))
