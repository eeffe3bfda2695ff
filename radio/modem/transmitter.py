"""Payload and header to the samples of a burst."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.modem.framing.carriers import NUMEROLOGIES, SHORT
from siftmoe.radio.modem.framing.header import Header, header_cells
from siftmoe.radio.modem.framing.layout import HEADER_LENGTH, layout_of, with_best_numerology
from siftmoe.radio.modem.framing.preamble import preamble, preamble_length
from siftmoe.radio.modem.symbols.constellation import modulate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.modem.framing.layout import Layout

    ComplexArray = NDArray[np.complex64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """What both ends agree on beforehand.

    Parameters
    ----------
    sequence : int
        Of the transmitter's preamble.
    pilot_symbols : int
        After the sync part, 0 to 4.
    """

    sequence: int = 0
    pilot_symbols: int = 0

    def __post_init__(self) -> None:
        preamble_length(self.pilot_symbols)

    @property
    def header_start(self) -> int:
        """First sample of the header."""
        return preamble_length(self.pilot_symbols)

    @property
    def payload_start(self) -> int:
        """First sample of the payload."""
        return self.header_start + HEADER_LENGTH

    def length(self, header: Header) -> int:
        """Return the samples of a burst with this header."""
        layout = layout_of(header)
        return self.payload_start + (0 if layout is None else layout.samples)


def announce(
    payload: bytes,
    *,
    scheme: int,
    longest: int = len(NUMEROLOGIES) - 1,
    **fields: int,
) -> Header:
    """Header of a payload in the numerology that needs the fewest samples.

    Parameters
    ----------
    payload : bytes
        Empty for a burst that is only a header.
    scheme : int
        Number in `schemes.SCHEMES`.
    longest : int
        Longest numerology to consider.
    **fields
        Further fields of the header.

    Raises
    ------
    ValueError
        If the payload is too long or a field does not fit.
    """
    header = Header(length=len(payload), scheme=scheme, **fields)
    return with_best_numerology(header, longest=longest)


def burst(
    payload: bytes,
    header: Header,
    form: Format = Format(),
    *,
    header_amplitude: float = 1.0,
) -> ComplexArray:
    """Return the samples of a burst; preamble and payload have mean power 1.

    Parameters
    ----------
    payload : bytes
        The whole payload, also where the burst carries only some of its blocks.
    header : Header
    form : Format
    header_amplitude : float
        Of the header's symbols: it needs less power than most payloads.

    Returns
    -------
    (form.length(header),) complex64

    Raises
    ------
    ValueError
        If the payload has not the length that the header says, or the amplitude is not positive.
    """
    if len(payload) != header.length:
        raise ValueError(f"burst: {len(payload)} bytes, but the header says {header.length}")
    if not 0.0 < header_amplitude < np.inf:
        raise ValueError(f"burst: header_amplitude must be positive, got {header_amplitude}")
    head = SHORT.modulate(header_cells(header)) * np.float32(header_amplitude)
    parts = [preamble(form.sequence, form.pilot_symbols), head]
    layout = layout_of(header)
    if layout is not None:
        cells = payload_cells(payload, layout, redundancy=header.redundancy)
        parts.append(layout.numerology.modulate(cells))
    return np.concatenate(parts)


def payload_cells(payload: bytes, layout: Layout, *, redundancy: int) -> ComplexArray:
    """Symbols of the blocks of a burst, (symbols, data cells) complex64."""
    order, code = layout.scheme.order, layout.segmentation.code
    cells = np.empty(layout.cells, np.complex64)
    for place, block in enumerate(layout.blocks):
        begin, end = layout.range_of(place)
        sent = (end - begin) * order
        word = code.encode(
            layout.segmentation.bits_of(payload, block), rows=code.rows(sent, redundancy)
        )
        bits = code.select(word, sent=sent, version=redundancy, bits_per_symbol=order)
        cells[begin:end] = modulate(bits, order)
    return cells.reshape(layout.symbols, -1)


def retransmission(header: Header, *, redundancy: int, blocks: int) -> Header:
    """Header that sends some blocks of a payload again.

    Parameters
    ----------
    header : Header
        Of the first transmission.
    redundancy : int
        Redundancy version, 0 to 3.
    blocks : int
        Mask of the blocks, see `header`.
    """
    return with_best_numerology(replace(header, redundancy=redundancy, blocks=blocks))
