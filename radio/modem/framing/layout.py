"""Layout of a burst: which blocks it carries, in which cells, and how many samples it has.

Everything follows from the header, at both ends. Coded bits fill every payload symbol; all blocks
of a burst get as many cells, within one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from siftmoe.radio.modem.coding.blocks import Segmentation, segment
from siftmoe.radio.modem.framing.carriers import NUMEROLOGIES, SHORT, Numerology
from siftmoe.radio.modem.framing.header import HEADER_SYMBOLS
from siftmoe.radio.modem.symbols.schemes import Scheme, scheme

if TYPE_CHECKING:
    from siftmoe.radio.modem.framing.header import Header

HEADER_LENGTH = HEADER_SYMBOLS * SHORT.symbol_length
_MASK_BITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Layout of the payload of one burst.

    Parameters
    ----------
    scheme : Scheme
    numerology : Numerology
    segmentation : Segmentation
        Of the whole payload.
    blocks : tuple of int
        Blocks in this burst.
    symbols : int
        OFDM symbols.
    """

    scheme: Scheme
    numerology: Numerology
    segmentation: Segmentation
    blocks: tuple[int, ...]
    symbols: int

    @property
    def cells(self) -> int:
        """Data cells of all symbols."""
        return self.symbols * self.numerology.data_cells

    def range_of(self, place: int) -> tuple[int, int]:
        """First cell of the block at a place of ``blocks``, and the one after its last."""
        count = len(self.blocks)
        return self.cells * place // count, self.cells * (place + 1) // count

    @property
    def samples(self) -> int:
        """Samples of the payload."""
        return self.symbols * self.numerology.symbol_length


def blocks_in(mask: int, count: int) -> tuple[int, ...]:
    """Blocks of a payload of ``count`` blocks that a header's mask names."""
    return tuple(block for block in range(count) if mask >> block % _MASK_BITS & 1)


def mask_of(blocks: tuple[int, ...]) -> int:
    """Mask of a header that has at least these blocks."""
    mask = 0
    for block in blocks:
        mask |= 1 << block % _MASK_BITS
    return mask


@lru_cache(maxsize=256)
def layout_of(header: Header) -> Layout | None:
    """Layout of the payload that a header announces; None if it has none.

    Raises
    ------
    ValueError
        If the mask names no block of the payload.
    """
    if header.length == 0:
        return None
    chosen = scheme(header.scheme)
    segmentation = segment(header.length, chosen.rate)
    blocks = blocks_in(header.blocks, segmentation.count)
    if not blocks:
        raise ValueError(f"header: blocks {header.blocks:#x} of {segmentation.count} name none")
    numerology = NUMEROLOGIES[header.numerology]
    bits = segmentation.code.payload * len(blocks)
    symbols = math.ceil(bits / chosen.efficiency / numerology.data_cells)
    return Layout(
        scheme=chosen,
        numerology=numerology,
        segmentation=segmentation,
        blocks=blocks,
        symbols=symbols,
    )


def with_best_numerology(header: Header, *, longest: int = len(NUMEROLOGIES) - 1) -> Header:
    """Header with the numerology of the fewest samples, the shorter symbols of equals.

    Parameters
    ----------
    header : Header
    longest : int
        Longest symbols to consider, where the channel changes fast.
    """
    choices = [replace(header, numerology=index) for index in range(longest + 1)]
    return min(choices, key=_payload_samples)


def _payload_samples(header: Header) -> int:
    layout = layout_of(header)
    return 0 if layout is None else layout.samples
