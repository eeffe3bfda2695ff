"""Packed vectors: rows with a few bits per entry, used in messages in the place of an array.

A frame of packed rows has their records (`siftmoe.models.vectors.records`) in row order, and the
header gives their widths in runs: ``[[4, 3], [16, 1]]`` is three rows of 4 bits and then one row of
float16. A received frame is checked before it is used (`packed_check`), and unpacked where it is
computed.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from siftmoe.agent.wire.bounds import MAX_RUNS
from siftmoe.models.vectors.fused import read, write
from siftmoe.models.vectors.quantise import WIDTHS, NotFinite, Rotation, rotate
from siftmoe.models.vectors.records import from_records, record_bytes, to_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    ByteArray = NDArray[np.uint8]
    Float32Array = NDArray[np.float32]
    Run = tuple[int, int]

_FLOAT_NAMES: dict[int, Any] = {16: np.float16, 32: np.float32}


class Packed(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Rows with a few bits per entry, with the array attributes that queues and sockets use.

    Parameters
    ----------
    shape : (int, int)
        Rows n and entries d.
    runs : tuple of (width, count)
        Width in bit and number of consecutive rows; the counts add up to n.
    rotation : "none" or "hadamard"
        Rotation of the quantised rows.
    data : bytes-like
        The records of the rows.
    """

    shape: tuple[int, int]
    runs: tuple[Run, ...]
    rotation: Rotation
    data: bytes | bytearray | memoryview

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of the records."""
        return len(self.data)

    def rows(self) -> Float32Array:
        """Unpack the rows (n, d) to float32; a row with too large a step overflows alone."""
        for width, _ in self.runs:
            if width not in WIDTHS:
                return _unpack([self])
        data = np.frombuffer(self.data, np.uint8)
        return read(data, self.runs, size=self.shape[1], rotation=self.rotation)

    def parts(self) -> Iterator[tuple[int, ByteArray]]:
        """Yield width and records [count, bytes] of every run."""
        place = 0
        for width, count in self.runs:
            length = count * record_bytes(self.shape[1], width)
            yield width, np.frombuffer(self.data, np.uint8, length, place).reshape(count, -1)
            place += length


Vectors = NDArray[np.floating[Any]] | Packed


def plain(vectors: Vectors) -> NDArray[np.floating[Any]]:
    """Return vectors as an array."""
    return vectors.rows() if isinstance(vectors, Packed) else vectors


def plain_all(vectors: Sequence[Vectors]) -> list[NDArray[np.floating[Any]]]:
    """Return several messages' vectors as arrays.

    Packed ones are unpacked together, which costs about as much as one of them alone; no row
    depends on others, so the rows are the same to the last bit.
    """
    together = [one for one in vectors if isinstance(one, Packed)]
    if len({(one.shape[1], one.rotation) for one in together}) != 1:
        return [plain(one) for one in vectors]
    rows, begin, found = _unpack(together), 0, []
    for one in vectors:
        if isinstance(one, Packed):
            found.append(rows[begin : begin + len(one)])
            begin += len(one)
        else:
            found.append(one)
    return found


def _unpack(messages: Sequence[Packed]) -> Float32Array:
    """Unpack messages of one size and rotation; their rows one after the other, (n, d)."""
    size, rotation = messages[0].shape[1], messages[0].rotation
    parts = [(width, records) for message in messages for width, records in message.parts()]
    few = [(width, records) for width, records in parts if width in WIDTHS]
    turned = np.empty((0, size), np.float32)
    if few:
        data = np.concatenate([records.reshape(-1) for _, records in few])
        runs = [(width, len(records)) for width, records in few]
        turned = read(data, runs, size=size, rotation=rotation)
    if len(few) == len(parts):
        return turned
    rows = np.empty((sum(len(records) for _, records in parts), size), np.float32)
    begin = taken = 0
    for width, records in parts:
        end = begin + len(records)
        if width in WIDTHS:
            rows[begin:end] = turned[taken : taken + len(records)]
            taken += len(records)
        else:
            with np.errstate(all="ignore"):
                rows[begin:end] = from_records(records, width, size=size)
        begin = end
    return rows


def runs_of(vectors: Vectors) -> tuple[Run, ...]:
    """Return the widths of vectors in the order of the rows: (width, rows)."""
    if isinstance(vectors, Packed):
        return vectors.runs
    return ((8 * vectors.dtype.itemsize, len(vectors)),)


def row_widths(vectors: Vectors) -> set[int]:
    """Return the widths that occur among vectors, bit."""
    return {width for width, _ in runs_of(vectors)}


def packed(runs: Sequence[tuple[int, ByteArray]], *, size: int, rotation: Rotation) -> Packed:
    """Concatenate records to packed vectors.

    Parameters
    ----------
    runs : sequence of (width, records)
        Records as `to_records` makes them, at least one.
    size : int
        Entries d of a row.
    rotation : "none" or "hadamard"
        Rotation of the quantised records.
    """
    if len(runs) == 1:
        ((width, records),) = runs
        return Packed(
            shape=(len(records), size),
            runs=((width, len(records)),),
            rotation=rotation,
            data=records.reshape(-1).data,
        )
    return Packed(
        shape=(sum(len(records) for _, records in runs), size),
        runs=tuple((width, len(records)) for width, records in runs),
        rotation=rotation,
        data=np.concatenate([records.reshape(-1) for _, records in runs]).data,
    )


def pack_rows(rows: Float32Array, width: int, *, rotation: Rotation) -> Vectors:
    """Convert rows to one width.

    Parameters
    ----------
    rows : (n, d) float32
    width : int, bit
        One of `ROW_WIDTHS`; at 16 and 32 the result is an array.
    rotation : "none" or "hadamard"

    Returns
    -------
    Packed or (n, d) float16 or float32
        Rows with a number that is not finite cannot be quantised and are packed as float16; the
        other rows are not affected.
    """
    if width in _FLOAT_NAMES:
        with np.errstate(over="ignore"):  # beyond float16 is infinite, as in the model itself
            return rows.astype(_FLOAT_NAMES[width], copy=False)
    try:
        records = write(rows, width, rotation=rotation)
    except NotFinite:
        return _pack_around(rows, width, rotation)
    return Packed(
        shape=(len(rows), rows.shape[1]),
        runs=((width, len(rows)),),
        rotation=rotation,
        data=records.data,
    )


def pack_runs(rows: Float32Array, runs: Sequence[Run], *, rotation: Rotation) -> Vectors:
    """Convert rows (n, d) to widths in runs of (width, rows); each run as `pack_rows`."""
    if len(runs) == 1:
        return pack_rows(rows, runs[0][0], rotation=rotation)
    parts: list[tuple[int, ByteArray]] = []
    begin = 0
    for width, count in runs:
        part = pack_rows(rows[begin : begin + count], width, rotation=rotation)
        begin += count
        if isinstance(part, Packed):
            parts.extend(part.parts())
        else:
            own = 8 * part.dtype.itemsize
            parts.append((own, to_records(part.astype(np.float32, copy=False), own)))
    if len(parts) > MAX_RUNS:  # rows that are not finite, in turns with others
        with np.errstate(over="ignore"):
            return rows.astype(np.float16)
    return packed(parts, size=rows.shape[1], rotation=rotation)


def _pack_around(rows: Float32Array, width: int, rotation: Rotation) -> Vectors:
    """Pack rows (n, d), those that are not finite as float16."""
    with np.errstate(all="ignore"):
        return _packed_around(rows, rotate(rows, rotation), width, rotation)


def _packed_around(
    rows: Float32Array, turned: Float32Array, width: int, rotation: Rotation
) -> Vectors:
    fits: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(turned), axis=1)  # [n]
    begins = [0, *(np.flatnonzero(fits[1:] != fits[:-1]) + 1).tolist(), len(rows)]
    if len(begins) - 1 > MAX_RUNS or not fits.any():
        return rows.astype(np.float16)
    runs = []
    for begin, end in pairwise(begins):
        of = width if fits[begin] else 16
        part = turned if fits[begin] else rows
        runs.append((of, to_records(part[begin:end], of)))
    return packed(runs, size=rows.shape[1], rotation=rotation)
