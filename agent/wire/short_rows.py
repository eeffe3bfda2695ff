"""Experts and weights of the rows of a short header.

Behind the fields come, bit by bit: where rows differ, how many experts each has; their indices
among the hosted ones, of each row the one of weight 1 first; the other weights, those of 8 bits,
then those of 16, then those of 32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from siftmoe.agent.errors import ProtocolError
from siftmoe.agent.wire.control import (
    MOST_PAIRS,
    BitReader,
    BitWriter,
    as_codes,
    bits_for,
    of_codes,
    weight_bits,
)
from siftmoe.agent.wire.payload import Frame
from siftmoe.agent.wire.short_fields import Runs

Pairs = tuple[NDArray[np.int32], NDArray[np.float32]]

_WEIGHT_BITS: Final = (8, 16, 32)
_MOST_INDEX_BITS: Final = 15


class RowControl(NamedTuple):
    """Experts and weights of a message's rows, in the order in which they are written.

    ``counts`` [n]; ``experts`` [m], indices among the hosted ones; ``weights`` and their ``bits``
    [m - n], those behind each row's first.
    """

    counts: NDArray[np.int64]
    experts: NDArray[np.int64]
    weights: NDArray[np.float32]
    bits: NDArray[np.int64]

    @property
    def most(self) -> int:
        """Experts of the row that has most."""
        return int(self.counts.max())

    @property
    def mixed(self) -> bool:
        """Whether rows have different numbers of experts."""
        return self.most != int(self.counts.min())

    def write(self, residents: int) -> bytes:
        """Write them for an agent that hosts so many experts of the layer."""
        writer = BitWriter()
        if self.mixed:
            writer.write(self.counts - 1, bits_for(self.most))
        writer.write(self.experts, bits_for(residents))
        for width in _WEIGHT_BITS:
            writer.write(as_codes(self.weights[self.bits == width], width), width)
        return writer.done()


def arranged(
    pairs: NDArray[np.int32],
    weights: NDArray[np.float32],
    *,
    residents: Sequence[int],
    reply_runs: Runs,
) -> RowControl | None:
    """Arrange a request's pairs; None where a short header has no room for them."""
    num_rows = sum(count for _, count in reply_runs)
    row, known = pairs[:, 0].astype(np.int64), np.asarray(residents, np.int64)
    counts = np.bincount(row, minlength=num_rows)
    if len(counts) != num_rows or counts.min() < 1 or counts.max() > MOST_PAIRS:
        return None
    if not len(known) or bits_for(len(known)) > _MOST_INDEX_BITS:
        return None
    index = np.minimum(np.searchsorted(known, pairs[:, 1]), len(known) - 1)
    if not np.array_equal(known[index], pairs[:, 1]):
        return None
    order = np.lexsort((index, weights != 1.0, row))
    first = _first(counts)
    weights = weights[order]
    if not (weights[first] == 1.0).all() or np.abs(weights).max() > 1.0:
        return None
    bits = np.repeat(_row_bits(reply_runs), counts)
    return RowControl(counts, index[order], weights[~first], bits[~first])


def pairs_of_rows(
    data: Frame,
    *,
    residents: Sequence[int],
    reply_runs: Runs,
    most: int,
    mixed: bool,
    request_id: int,
) -> Pairs:
    """Read what `RowControl.write` wrote: pairs, ascending by row and expert, and weights.

    Raises
    ------
    ProtocolError
        If bits are missing or left over, an expert is not hosted or occurs twice in a row, a row
        has more experts than the header says, or a weight is not finite.
    """
    reader, num_rows = BitReader(data), sum(count for _, count in reply_runs)
    try:
        counts = np.full(num_rows, most, np.int64)
        if mixed:
            counts = reader.read(num_rows, bits_for(most)).astype(np.int64) + 1
        index = reader.read(int(counts.sum()), bits_for(len(residents))).astype(np.int64)
        weights = _read_weights(reader, counts, np.repeat(_row_bits(reply_runs), counts))
    except BitReader.TooShort:
        raise ProtocolError("the experts of the rows end too early", request_id) from None
    if not reader.at_end:
        raise ProtocolError("the experts of the rows are followed by more bytes", request_id)
    if counts.max() > most or index.max() >= len(residents):
        raise ProtocolError(
            f"a row has at most {most} experts, each one of the {len(residents)} that are hosted; "
            f"got one outside",
            request_id,
        )
    if not np.isfinite(weights).all():
        raise ProtocolError("weights must be finite", request_id)
    row = np.repeat(np.arange(num_rows), counts)
    order = np.lexsort((index, row))
    row, index = row[order], index[order]
    if ((row[1:] == row[:-1]) & (index[1:] == index[:-1])).any():
        raise ProtocolError("a row uses an expert twice", request_id)
    pairs = np.empty((len(row), 2), np.int32)
    pairs[:, 0], pairs[:, 1] = row, np.asarray(residents, np.int32)[index]
    return pairs, weights[order]


def _read_weights(
    reader: BitReader, counts: NDArray[np.int64], bits: NDArray[np.int64]
) -> NDArray[np.float32]:
    weights, first = np.ones(len(bits), np.float32), _first(counts)
    for width in _WEIGHT_BITS:
        mine = ~first & (bits == width)
        weights[mine] = of_codes(reader.read(int(mine.sum()), width), width)
    return weights


def _first(counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the first pair of every row, (m,)."""
    first = np.zeros(int(counts.sum()), bool)
    first[np.cumsum(counts) - counts] = True
    return first


def _row_bits(reply_runs: Runs) -> NDArray[np.int64]:
    """Bits of a weight of every row, (n,)."""
    widths = np.array([weight_bits(width) for width, _ in reply_runs], np.int64)
    return np.repeat(widths, [count for _, count in reply_runs])
