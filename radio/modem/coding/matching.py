r"""Rate matching of 5G NR: which bits of the mother code are sent, and in which order.

The mother code without its first two columns is a circular buffer of N bits. A redundancy version
starts at one of four places in it and takes E bits, filler bits left out; it repeats when the
buffer ends (3GPP TS 38.212 V17, 5.4.2.1). The bit interleaver (5.4.2.2) writes the E bits into
Q rows and reads columns, so that the first, systematic bits get the safest bits of a symbol.

Both together are one table of positions: sending is ``word[positions]``, receiving adds the soft
bits to the totals at the same positions.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.modem.coding.graphs import CORE_ROWS, LiftedGraph, lifted, lifting_sizes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]

#: Base graph -> where the redundancy versions start, in columns.
_STARTS = {1: (0, 17, 33, 56), 2: (0, 13, 25, 43)}
VERSIONS = 4
#: Punctured columns.
_PUNCTURED = 2


@lru_cache(maxsize=64)
def positions(
    graph: LiftedGraph, *, payload: int, sent: int, version: int, bits_per_symbol: int
) -> IntArray:
    """Positions in the mother code of the bits that are sent, in the order of sending.

    Parameters
    ----------
    graph : LiftedGraph
    payload : int, bit
        Information bits; what is left of the information columns is filler and never sent.
    sent : int, bit
        E, a multiple of ``bits_per_symbol``.
    version : int
        Redundancy version, 0 to 3.
    bits_per_symbol : int
        Q.

    Returns
    -------
    (sent,) int64

    Raises
    ------
    ValueError
        If the version does not exist, or E is no positive multiple of Q.
    """
    if not 0 <= version < VERSIONS:
        raise ValueError(f"rate matching: redundancy version must lie in 0..3, got {version}")
    if sent < 1 or sent % bits_per_symbol:
        raise ValueError(f"rate matching: {sent} bits are no symbols of {bits_per_symbol} bits")
    size = graph.size
    buffer = np.arange(_PUNCTURED * size, graph.length)
    kept = (buffer < payload) | (buffer >= graph.information * size)
    start = _STARTS[graph.number][version] * size
    order = np.concatenate([buffer[start:], buffer[:start]])
    order = order[np.concatenate([kept[start:], kept[:start]])]
    chosen = np.resize(order, sent)  # repeats when the buffer ends
    table = np.ascontiguousarray(chosen.reshape(bits_per_symbol, -1).T).reshape(-1)
    table.setflags(write=False)
    return table


def rows_needed(graph: LiftedGraph, *, payload: int, sent: int) -> int:
    """Rows of the base graph that see a bit of redundancy version 0, at least the core."""
    filler = graph.information * graph.size - payload
    last = sent + filler + _PUNCTURED * graph.size
    rows = -(-last // graph.size) - graph.information
    return min(graph.rows, max(CORE_ROWS, rows))


def graph_for(payload: int, *, rate: float) -> LiftedGraph:
    """Choose base graph and lifting size for a block.

    The choice of 3GPP TS 38.212 V17, 6.2.2 and 5.2.2: graph 2 for short blocks and low rates.

    Parameters
    ----------
    payload : int, bit
        With the checksum.
    rate : float
        Code rate of the first transmission.

    Raises
    ------
    ValueError
        If no code is long enough.
    """
    number = 2 if payload <= 292 or (payload <= 3824 and rate <= 0.67) or rate <= 0.25 else 1
    columns = _columns_used(number, payload)
    size = next((z for z in lifting_sizes() if columns * z >= payload), None)
    if size is None:
        raise ValueError(f"ldpc: a block of {payload} bits at rate {rate} is too long")
    return lifted(number, size)


def largest_payload(rate: float) -> int:
    """Longest block that a rate's base graph encodes, bit."""
    return 3840 if rate <= 0.25 else 8448


def _columns_used(number: int, payload: int) -> int:
    if number == 1:
        return 22
    return 10 if payload > 640 else 9 if payload > 560 else 8 if payload > 192 else 6
