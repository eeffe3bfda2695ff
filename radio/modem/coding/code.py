"""One block's LDPC code: encoding, soft buffers that add up retransmissions, decoding.

Soft bits are log-likelihood ratios in steps of 1 / ``SOFT_SCALE``, positive for 0, limited to 127
each. A soft buffer is the word's totals, (columns, Z) int16; every transmission of the block is
added to it, whatever its redundancy version.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.modem.coding import kernels
from siftmoe.radio.modem.coding.graphs import CORE_ROWS
from siftmoe.radio.modem.coding.matching import graph_for, positions, rows_needed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.modem.coding.graphs import LiftedGraph

    Bits = NDArray[np.uint8]
    Int16Array = NDArray[np.int16]

#: Steps of a soft bit per unit of the log-likelihood ratio (natural logarithm).
SOFT_SCALE = 8.0
SOFT_LIMIT = 127
#: Limit of the sum of a bit's transmissions; a message is at most 127.
_SUM_LIMIT = 1000
#: Normalisation of the messages in sixteenths, at high rates and with many rows of the extension.
#: Tried: the least block errors, and the fewest iterations where both have none.
_WEIGHT, _LOW_RATE_WEIGHT = 12, 11
_LOW_RATE_ROWS = 20
#: After so many iterations a block that will decode nearly always has.
DEFAULT_ITERATIONS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A decoded word.

    Parameters
    ----------
    word : (columns, Z) bool
        Hard decisions on the mother code; rows that were not used are not valid.
    iterations : int
    consistent : bool
        Whether all checks that were used are fulfilled.
    """

    word: NDArray[np.bool_]
    iterations: int
    consistent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCode:
    """The code of a block of ``payload`` bits; see ``block_code``.

    Parameters
    ----------
    graph : LiftedGraph
    payload : int, bit
        Information bits, the checksum included.
    """

    graph: LiftedGraph
    payload: int

    def encode(self, bits: Bits, *, rows: int | None = None) -> Bits:
        """Encode a block.

        Parameters
        ----------
        bits : (payload,) uint8, 0 or 1
        rows : int or None
            Rows of the graph whose parity is wanted; None for all.

        Returns
        -------
        (columns, Z) uint8
            The mother code; parity of further rows is 0.

        Raises
        ------
        ValueError
            If there are more or fewer bits.
        """
        graph = self.graph
        if bits.shape != (self.payload,):
            raise ValueError(f"ldpc: a block has {self.payload} bits, got shape {bits.shape}")
        rows = graph.rows if rows is None else max(rows, CORE_ROWS)
        word = np.zeros(graph.length, np.uint8)
        word[: self.payload] = bits
        lists = (graph.starts, graph.columns, graph.shifts, graph.order)
        kernels.encode(word, *lists, graph.corner, graph.size, rows)
        return word.reshape(-1, graph.size)

    def rows(self, sent: int, version: int) -> int:
        """Rows that a first transmission of so many bits needs; all for other versions."""
        if version:
            return self.graph.rows
        return rows_needed(self.graph, payload=self.payload, sent=sent)

    def select(self, word: Bits, *, sent: int, version: int, bits_per_symbol: int) -> Bits:
        """Bits of a word in the order in which they are sent, (sent,)."""
        table = positions(
            self.graph,
            payload=self.payload,
            sent=sent,
            version=version,
            bits_per_symbol=bits_per_symbol,
        )
        return np.asarray(word.reshape(-1)[table])

    def blank(self) -> Int16Array:
        """Return the soft buffer of a block of which nothing was received; fillers are known."""
        totals = np.zeros(self.graph.length, np.int16)
        totals[self.payload : self.graph.information * self.graph.size] = kernels.TOTAL_LIMIT
        return totals.reshape(-1, self.graph.size)

    def add(
        self, totals: Int16Array, soft: Int16Array, *, version: int, bits_per_symbol: int
    ) -> None:
        """Add the soft bits of a transmission to a soft buffer, in place.

        Parameters
        ----------
        totals : (columns, Z) int16
        soft : (sent,) int16
            In the order of sending.
        version, bits_per_symbol : int
            As they were sent.
        """
        table = positions(
            self.graph,
            payload=self.payload,
            sent=len(soft),
            version=version,
            bits_per_symbol=bits_per_symbol,
        )
        kernels.add_soft(totals.reshape(-1), table, soft, _SUM_LIMIT)

    def decode(
        self, totals: Int16Array, *, rows: int, iterations: int = DEFAULT_ITERATIONS
    ) -> Decoded:
        """Decode a soft buffer, which is kept.

        Parameters
        ----------
        totals : (columns, Z) int16
        rows : int
            Rows of the graph to use.
        iterations : int
            At most.
        """
        graph = self.graph
        twice = np.concatenate([totals, totals], axis=1)
        messages = np.empty((int(graph.starts[rows]), graph.size), np.int8)
        used = kernels.decode(
            twice,
            messages,
            graph.starts,
            graph.columns,
            graph.shifts,
            row_weights(rows),
            rows,
            iterations,
        )
        word = twice[:, : graph.size] < 0
        return Decoded(word=word, iterations=abs(used), consistent=used > 0)


@lru_cache(maxsize=64)
def row_weights(rows: int) -> Int16Array:
    """Normalisation of the messages of every row that is used, sixteenths, (rows,)."""
    weight = _LOW_RATE_WEIGHT if rows > _LOW_RATE_ROWS else _WEIGHT
    return np.full(rows, weight, np.int16)


@lru_cache(maxsize=256)
def block_code(payload: int, rate: float) -> BlockCode:
    """Return the code of a block of ``payload`` bits whose first transmission has this rate.

    Raises
    ------
    ValueError
        If no code is long enough.
    """
    return BlockCode(graph=graph_for(payload, rate=rate), payload=payload)
