"""Decodes the blocks of a payload one after the other, as soon as each has arrived.

A decoded block is a known signal: it corrects phase, response and noise for the next. Of a block
only its last part serves for the response, since the channel moves on. Older symbols are kept in
the sums as long as they explain the new ones.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.modem.coding.code import SOFT_SCALE
from siftmoe.radio.modem.framing.carriers import NUMEROLOGIES, PREFIX
from siftmoe.radio.modem.receiving.opening import MARGIN
from siftmoe.radio.modem.receiving.reception import BlockReport
from siftmoe.radio.modem.receiving.response import tap_sums, waves
from siftmoe.radio.modem.receiving.tracking import smooth
from siftmoe.radio.modem.receiving.windows import symbols
from siftmoe.radio.modem.symbols.constellation import modulate
from siftmoe.radio.modem.symbols.demapper import demap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.modem.coding.code import Decoded
    from siftmoe.radio.modem.framing.carriers import Numerology
    from siftmoe.radio.modem.framing.layout import Layout
    from siftmoe.radio.modem.receiving.memory import Partial
    from siftmoe.radio.modem.receiving.opening import Opened
    from siftmoe.radio.modem.transmitter import Format

    Cells = NDArray[np.complex64]

#: Decided cells at the end of a block that the response is fitted to.
_FIT_CELLS = 3200
#: Weight of older symbols in the fit while they explain the new ones.
_FADE = 0.7
#: Excess of the error, relative to the noise, at which older symbols no longer do; three standard
#: deviations of its mean are added.
_EXCESS = 0.02


@lru_cache(maxsize=len(NUMEROLOGIES))
def _waves(numerology: Numerology) -> tuple[Cells, Cells]:
    """Waves at the data cells, in the order of sending, and at the pilots."""
    basis = waves(numerology.carriers / numerology.fft_size)
    return basis[numerology.data_places], basis[numerology.pilot_places]


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
        self.taps = opened.sums.taps(1e-3 * opened.sums.count)
        numerology, count = self.layout.numerology, self.layout.symbols
        self._data = np.empty((count, numerology.data_cells), np.complex64)
        self._tones = np.empty((count, len(numerology.pilot_places)), np.complex64)
        self._known = np.zeros((count, numerology.data_cells), np.complex64)
        self._phases = np.zeros(count)
        self._cut = 0  # symbols that were cut out of the samples
        self._settled = 0  # symbols that the phase filter has passed

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
        soft = self._soft_bits(begin, end)
        report = self._decode(place, soft, begin, end)
        settled = end // cells
        if report.received:
            self._fit(max(begin, end - _FIT_CELLS), end)
        self._track(settled, settle=True)
        self.reports.append(report)
        return report

    def _cut_symbols(self, samples: Cells, last: int) -> None:
        numerology = self.layout.numerology
        if last <= self._cut:
            return
        first = self._form.payload_start + self._cut * numerology.symbol_length
        received = symbols(
            samples, numerology, first=first, count=last - self._cut, timing=self._timing
        )
        self._data[self._cut : last] = received[:, numerology.data_places]
        self._tones[self._cut : last] = received[:, numerology.pilot_places]
        self._cut = last

    def _track(self, last: int, *, settle: bool = False) -> None:
        """Phases of the symbols from the first unsettled one on."""
        first = self._settled
        if last <= first:
            return
        numerology = self.layout.numerology
        data_waves, pilot_waves = _waves(numerology)
        expected = (pilot_waves @ self.taps) * numerology.pilots  # [8]
        matched = self._tones[first:last] @ expected.conj()
        energy = np.full(last - first, float(np.vdot(expected, expected).real))
        known = self._known[first:last]
        if known.any():
            model = (data_waves @ self.taps).astype(np.complex64) * known
            matched = matched + np.einsum("ij,ij->i", model.conj(), self._data[first:last])
            energy += np.einsum("ij,ij->i", model.conj(), model).real
        length = numerology.symbol_length
        times = (
            self._form.payload_start
            + PREFIX
            + 0.5 * numerology.fft_size
            + length * np.arange(first, last, dtype=np.float64)
        )
        phases, state = smooth(
            self._state, times=times, matched=matched, energy=energy / self.noise, walk=self._walk
        )
        self._phases[first:last] = phases
        if settle:
            self._state, self._settled = state, last

    def _turned(self, begin: int, end: int) -> Cells:
        """Cells of a range with their phase removed, (end - begin,)."""
        cells = self.layout.numerology.data_cells
        first, last = begin // cells, -(-end // cells)
        turn = np.exp(-1j * self._phases[first:last, None]).astype(np.complex64)
        turned = (self._data[first:last] * turn).reshape(-1)
        return np.asarray(turned[begin - first * cells : end - first * cells])

    def _response(self, begin: int, end: int) -> Cells:
        cells = self.layout.numerology.data_cells
        first, last = begin // cells, -(-end // cells)
        response = (_waves(self.layout.numerology)[0] @ self.taps).astype(np.complex64)
        return np.asarray(np.tile(response, last - first)[begin - first * cells :][: end - begin])

    def _soft_bits(self, begin: int, end: int) -> NDArray[np.int16]:
        return demap(
            self._turned(begin, end),
            self._response(begin, end),
            noise=self.noise,
            order=self.layout.scheme.order,
            scale=SOFT_SCALE,
        )

    def _decode(
        self, place: int, soft: NDArray[np.int16], begin: int, end: int
    ) -> BlockReport:
        """Add soft bits to the block's buffer and decode; a decoded block becomes known cells."""
        block = self.layout.blocks[place]
        segmentation, order = self.layout.segmentation, self.layout.scheme.order
        code, version = segmentation.code, self._header.redundancy
        totals = self._partial.soft.pop(block, None)
        earlier = totals is not None
        totals = code.blank() if totals is None else totals
        code.add(totals, soft, version=version, bits_per_symbol=order)
        rows = code.graph.rows if earlier else code.rows(len(soft), version)
        decoded = code.decode(totals, rows=rows, iterations=self._iterations)
        content = self._content(decoded)
        if content is None:
            if block not in self._partial.blocks:
                self._partial.soft[block] = totals
            return BlockReport(block=block, received=False, iterations=decoded.iterations)
        self._partial.blocks[block] = content
        bits = code.select(
            decoded.word.view(np.uint8), sent=len(soft), version=version, bits_per_symbol=order
        )
        sent = modulate(bits, order)
        self._known.reshape(-1)[begin:end] = sent
        return BlockReport(
            block=block,
            received=True,
            iterations=decoded.iterations,
            evm=self._error(begin, end, sent),
        )

    def _content(self, decoded: Decoded) -> bytes | None:
        if not decoded.consistent:
            return None
        segmentation = self.layout.segmentation
        bits = decoded.word.reshape(-1)[: segmentation.code.payload]
        return segmentation.bytes_of(bits.view(np.uint8))

    def _error(self, begin: int, end: int, sent: Cells) -> float:
        """Error vector magnitude of a decided range, at the receiver's own scale."""
        response = self._response(begin, end)
        wanted = response * sent
        error = self._turned(begin, end) - wanted
        power = float(np.vdot(wanted, wanted).real)
        return math.sqrt(float(np.vdot(error, error).real) / power)

    def _fit(self, begin: int, end: int) -> None:
        """Fit response and noise to decided cells."""
        cells = self.layout.numerology.data_cells
        self._track(-(-end // cells))  # the decided cells make the phases precise
        first, last = begin // cells, -(-end // cells)
        sent = self._known[first:last].copy()
        flat = sent.reshape(-1)
        flat[: begin - first * cells] = 0
        turn = np.exp(-1j * self._phases[first:last, None]).astype(np.complex64)
        received = self._data[first:last] * turn
        basis = _waves(self.layout.numerology)[0]
        power = np.einsum("ij,ij->ij", sent, sent.conj()).real
        matched = np.sum(sent.conj() * received, axis=0)
        count = float(end - begin)
        fresh = tap_sums(basis, matched, power.sum(axis=0), count=count)
        old = (basis @ self.taps).astype(np.complex64)
        used = sent != 0
        excess = _mean_square((received - old * sent)[used]) / self.noise - 1.0
        stands = excess < _EXCESS + 3.0 / math.sqrt(count)
        self._sums = fresh + self._sums.faded(_FADE) if stands else fresh
        self.taps = self._sums.taps(1e-4 * self._sums.count)
        new = (basis @ self.taps).astype(np.complex64)
        noise = _mean_square((received - new * sent)[used])
        self.noise = max(noise, 1e-9 * float(np.mean(np.abs(new) ** 2)), 1e-30)


def _mean_square(values: Cells) -> float:
    return float(np.vdot(values, values).real) / max(len(values), 1)

