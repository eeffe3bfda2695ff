"""Decodes one block from its soft bits and from what was kept of earlier transmissions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.modem.framing.layout import Layout

    Int16Array = NDArray[np.int16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Result of decoding a block.

    Parameters
    ----------
    content : bytes or None
        Its payload bytes; None if parity or checksum do not hold.
    word : (columns, Z) bool
        Hard decisions on the mother code.
    totals : (columns, Z) int16
        Soft buffer with this transmission added.
    iterations : int
    """

    content: bytes | None
    word: NDArray[np.bool_]
    totals: Int16Array
    iterations: int


def decode_block(
    layout: Layout,
    soft: Int16Array,
    *,
    version: int,
    earlier: Int16Array | None,
    iterations: int,
) -> Outcome:
    """Decode a block.

    Parameters
    ----------
    layout : Layout
    soft : (sent,) int16
    version : int
        Redundancy version of this transmission.
    earlier : (columns, Z) int16 or None
        Soft buffer of earlier transmissions. If it does not help, the block is decoded without it:
        it may be that of another payload, or of an interferer.
    iterations : int
        At most.
    """
    code = layout.segmentation.code
    alone = code.rows(len(soft), version)
    if earlier is None:
        return _attempt(layout, code.blank(), soft, version, rows=alone, iterations=iterations)
    rows = code.graph.rows
    both = _attempt(layout, earlier.copy(), soft, version, rows=rows, iterations=iterations)
    if both.content is not None:
        return both
    again = _attempt(layout, code.blank(), soft, version, rows=alone, iterations=iterations)
    return both if again.content is None else again


def _attempt(
    layout: Layout,
    totals: Int16Array,
    soft: Int16Array,
    version: int,
    *,
    rows: int,
    iterations: int,
) -> Outcome:
    """Add soft bits to a buffer and decode it."""
    segmentation = layout.segmentation
    code = segmentation.code
    code.add(totals, soft, version=version, bits_per_symbol=layout.scheme.order)
    decoded = code.decode(totals, rows=rows, iterations=iterations)
    content = None
    if decoded.consistent:
        bits = decoded.word.reshape(-1)[: code.payload]
        content = segmentation.bytes_of(bits.view(np.uint8))
    return Outcome(content=content, word=decoded.word, totals=totals, iterations=decoded.iterations)
