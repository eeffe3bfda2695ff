"""Decodes the blocks of a payload one after the other, as soon as each has arrived.

A decoded block is a known signal: it corrects phase, response and noise for the next. Of a block
only its last part serves for the response, since the channel moves on. Older symbols are kept in
the sums as long as they explain the new ones.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.modem.framing.carriers import NUMEROLOGIES, PREFIX
from siftmoe.radio.modem.receiving.cells import accumulate, correlate
from siftmoe.radio.modem.receiving.decoding import decode_block
from siftmoe.radio.modem.receiving.following import follow
from siftmoe.radio.modem.receiving.opening import MARGIN
from siftmoe.radio.modem.receiving.reception import BlockReport
from siftmoe.radio.modem.receiving.response import Comb
from siftmoe.radio.modem.receiving.softening import present_noise, soft_bits, symbol_errors
from siftmoe.radio.modem.receiving.tracking import smooth
from siftmoe.radio.modem.receiving.windows import symbols
from siftmoe.radio.modem.symbols.constellation import modulate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.modem.framing.carriers import Numerology
    from siftmoe.radio.modem.framing.layout import Layout
    from siftmoe.radio.modem.receiving.memory import Partial
    from siftmoe.radio.modem.receiving.opening import Opened
    from siftmoe.radio.modem.transmitter import Format

    Cells = NDArray[np.complex64]

#: Decided cells at the end of a block that the response is fitted to.
_FIT_CELLS = 3200
#: The same while the channel changes from block to block.
_MOVING_CELLS = 1200
#: Weight of older symbols in the fit while they explain the new ones.
_FADE = 0.7
#: Excess of the error, relative to the noise, at which older symbols no longer do; three standard
#: deviations of its mean are added.
_EXCESS = 0.02


@lru_cache(maxsize=len(NUMEROLOGIES))
def _combs(numerology: Numerology) -> tuple[Comb, Comb]:
    """Carriers of the data cells, in the order of sending, and of the pilots."""
    carriers, size = numerology.carriers, numerology.fft_size
    data, tones = carriers[numerology.data_places], carriers[numerology.pilot_places]
    return Comb(size, data), Comb(size, tones)


class PayloadReader:
    """Reader of the payload of one burst.

    Parameters
    ----------
    opened : Opened
        With a layout.
    form : Format
    partial : Partial
        Payload that the burst belongs to; decoded blocks and soft bits are put into it.
    walk : float
        See `tracking.frequency_walk`.
    iterations : int
        Of the decoder, at most.
    """

    def __init__(
        self, opened: Opened, form: Format, partial: Partial, *, walk: float, iterations: int
    ) -> None:
        if opened.layout is None:
            raise ValueError("payload reader: the burst has no payload")
        self.layout: Layout = opened.layout
        self.reports: list[BlockReport] = []
        self.noise = opened.noise
        self._form = form
        self._header = opened.header
        self._partial = partial
        self._walk = walk
        self._iterations = iterations
        self._state = opened.state
        self._timing = opened.timing
        self._sums = opened.sums
        numerology, count = self.layout.numerology, self.layout.symbols
        self._comb, self._tone_comb = _combs(numerology)
        self._data = np.empty((count, numerology.data_cells), np.complex64)
        self._tones = np.empty((count, len(numerology.pilot_places)), np.complex64)
        self._known = np.zeros((count, numerology.data_cells), np.complex64)
        self._phasors = np.ones(count, np.complex64)
        self._cut = 0  # symbols that were cut out of the samples
        self._decided = 0  # cells up to the end of the last decoded block
        self._settled = 0  # symbols that the phase filter has passed
        self._respond(opened.sums.taps())

    def _respond(self, taps: NDArray[np.complex128]) -> None:
        """Take a response over."""
        self.taps = taps
        self._response = self._comb.response(taps)
        self._expected = self._tone_comb.response(taps) * self.layout.numerology.pilots

    @property
    def done(self) -> bool:
        """Whether the last block was decoded or lost."""
        return len(self.reports) == len(self.layout.blocks)

    @property
    def needed(self) -> int:
        """Samples since the burst's start that the next block needs."""
        numerology = self.layout.numerology
        _, end = self.layout.range_of(len(self.reports))
        count = -(-end // numerology.data_cells)
        return self._form.payload_start + count * numerology.symbol_length + MARGIN

    def read_block(self, samples: Cells) -> BlockReport:
        """Decode the next block.

        Parameters
        ----------
        samples : (n,) complex64
            At least ``needed`` samples from the burst's start on.
        """
        place = len(self.reports)
        begin, end = self.layout.range_of(place)
        cells = self.layout.numerology.data_cells
        last = -(-end // cells)
        self._cut_symbols(samples, last)
        self._track(last)
        earlier = self._partial.soft.pop(self.layout.blocks[place], None)
        report = self._decode(place, self._soft_bits(begin, end), earlier)
        if not report.received:  # perhaps the channel moved on during the block
            soft = self._soft_bits(begin, end, self._follow(begin // cells, last))
            report = self._decode(place, soft, earlier, keep=True)
        if report.received:
            report = replace(report, evm=self._fit(max(begin, end - _FIT_CELLS), end))
        else:
            self._track(last, settle=end // cells)
        self.reports.append(report)
        return report

    def _cut_symbols(self, samples: Cells, last: int) -> None:
        numerology = self.layout.numerology
        if last <= self._cut:
            return
        first = self._form.payload_start + self._cut * numerology.symbol_length
        symbols(
            samples,
            numerology,
            first=first,
            timing=self._timing,
            data=self._data[self._cut : last],
            tones=self._tones[self._cut : last],
        )
        self._cut = last

    def _track(self, last: int, *, settle: int = 0) -> None:
        """Phases of the symbols from the first unsettled one on; the filter passes ``settle``."""
        first = self._settled
        if last <= first:
            return
        numerology = self.layout.numerology
        matched, energy = np.empty(last - first, np.complex128), np.empty(last - first)
        decided = -(-self._decided // numerology.data_cells)  # symbols with a known cell
        correlate(
            self._tones[first:last],
            self._expected,
            self._data[first:last],
            self._known[first : max(first, min(decided, last))],
            self._response,
            matched,
            energy,
        )
        length = numerology.symbol_length
        times = (
            self._form.payload_start
            + PREFIX
            + 0.5 * numerology.fft_size
            + length * np.arange(first, last, dtype=np.float64)
        )
        passed = max(settle - first, 0)
        phases, state = smooth(
            self._state,
            times=times,
            matched=matched,
            energy=energy / self.noise,
            walk=self._walk,
            passed=passed,
        )
        self._phasors[first:last] = np.exp(1j * phases)
        self._state, self._settled = state, first + passed

    def _follow(self, first: int, last: int) -> list[NDArray[np.complex128]]:
        """Taps of every symbol of a block, by soft decisions; the last ones are taken over."""
        tones, phasors = self._tones[first:last], self._phasors[first:last]
        power = symbol_errors(tones, phasors, self._expected[None])
        taps, self._sums = follow(
            self._data[first:last],
            phasors,
            self._sums,
            comb=self._comb,
            noise=present_noise(power, noise=self.noise, tones=tones.shape[1]),
            order=self.layout.scheme.order,
            symbol_length=self.layout.numerology.symbol_length,
        )
        self._respond(taps[-1])
        return taps

    def _soft_bits(
        self, begin: int, end: int, taps: list[NDArray[np.complex128]] | None = None
    ) -> NDArray[np.int16]:
        """Soft bits of a range of cells, with the present response or taps for every symbol."""
        cells = self.layout.numerology.data_cells
        first, last = begin // cells, -(-end // cells)
        if taps is None:
            responses, expected = self._response[None], self._expected[None]
        else:
            responses = np.stack([self._comb.response(t) for t in taps])
            pilots = self.layout.numerology.pilots
            expected = np.stack([self._tone_comb.response(t) * pilots for t in taps])
        tones, phasors = self._tones[first:last], self._phasors[first:last]
        return soft_bits(
            self._data[first:last],
            phasors,
            responses,
            symbol_errors(tones, phasors, expected),
            (begin - first * cells, end - first * cells),
            noise=self.noise,
            order=self.layout.scheme.order,
            tones=tones.shape[1],
        )

    def _decode(
        self,
        place: int,
        soft: NDArray[np.int16],
        earlier: NDArray[np.int16] | None,
        *,
        keep: bool = False,
    ) -> BlockReport:
        """Decode a block with what was received earlier; what is decoded becomes known cells.

        Without success, and if ``keep``, its soft bits are kept for a retransmission.
        """
        block, order = self.layout.blocks[place], self.layout.scheme.order
        version = self._header.redundancy
        outcome = decode_block(
            self.layout,
            soft,
            version=version,
            earlier=earlier,
            iterations=self._iterations,
        )
        if outcome.content is None:
            if keep and block not in self._partial.blocks:
                self._partial.soft[block] = outcome.totals
            return BlockReport(block=block, received=False, iterations=outcome.iterations)
        self._partial.blocks[block] = outcome.content
        begin, end = self.layout.range_of(place)
        code, word = self.layout.segmentation.code, outcome.word.view(np.uint8)
        bits = code.select(word, sent=len(soft), version=version, bits_per_symbol=order)
        self._known.reshape(-1)[begin:end] = modulate(bits, order)
        self._decided = end
        return BlockReport(block=block, received=True, iterations=outcome.iterations)

    def _fit(self, begin: int, end: int) -> float:
        """Fit response and noise to decided cells; error vector magnitude before the fit."""
        cells = self.layout.numerology.data_cells
        first, last = begin // cells, -(-end // cells)
        self._track(last, settle=end // cells)  # the decided cells make the phases precise
        sent = self._known[first:last].copy()
        sent.reshape(-1)[: begin - first * cells] = 0
        data, phasors = self._data[first:last], self._phasors[first:last]
        matched = np.empty(cells, np.complex64)
        power = np.empty(cells, np.float32)
        error, wanted = accumulate(data, sent, phasors, self._response, matched, power)
        count = float(end - begin)
        if error / count < self.noise * (1.0 + _EXCESS + 3.0 / math.sqrt(count)):
            fresh = self._comb.sums(matched, power, count=count)
            self._sums = fresh + self._sums.faded(_FADE)
        else:  # the channel moves: only the latest cells, nothing older
            late = max(begin, end - _MOVING_CELLS)
            sent.reshape(-1)[: late - first * cells] = 0
            accumulate(data, sent, phasors, self._response, matched, power)
            count = float(end - late)
            self._sums = self._comb.sums(matched, power, count=count)
        self._respond(self._sums.taps())
        left, _ = accumulate(data, sent, phasors, self._response, matched, power)
        self.noise = max(left / count, 1e-9 * wanted / count, 1e-30)
        return math.sqrt(error / wanted)
