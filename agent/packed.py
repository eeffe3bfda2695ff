"""Vectors whose entries travel in a few bits each: what stands in the place of an array.

A frame of packed rows is their records (`siftmoe.models.records`) in row order, and the header says
in runs how wide they are: ``[[4, 3], [16, 1]]`` is three rows of 4 bits and then one of float16.
Whoever receives a frame checks it before it is used (`packed_of`), whoever computes unpacks it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from siftmoe.agent.errors import ProtocolError, UnknownWidth
from siftmoe.agent.messages_bounds import MAX_FRAME_BYTES, MAX_RUNS
from siftmoe.models.quantise import WIDTHS, NotFinite, Rotation, rotate, rotate_back
from siftmoe.models.records import ROW_WIDTHS, from_records, record_bytes, steps_of, to_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    ByteArray = NDArray[np.uint8]
    Float32Array = NDArray[np.float32]
    Run = tuple[int, int]

_FLOAT_NAMES: dict[int, Any] = {16: np.float16, 32: np.float32}
#: Bits of the least bfloat16 that is not finite.
_INFINITE = 0x7F80
#: Runs that an error lists.
_LISTED = 8


class Packed(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Rows in a few bits per entry; has of an array what sending and waiting need.

    Parameters
    ----------
    shape : (int, int)
        Rows n and entries d.
    runs : tuple of (width, count)
        Width of the rows in their order, in bit; the counts add up to n.
    rotation : "none" or "hadamard"
        Of the quantised rows.
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
        """Unpack: the rows (n, d) as float32. A row whose step is so large overflows alone."""
        return _unpack([self])

    def parts(self) -> Iterator[tuple[int, int, ByteArray]]:
        """Width, first row and records [count, bytes] of every run."""
        if len(self.runs) == 1:
            ((width, count),) = self.runs
            yield width, 0, np.frombuffer(self.data, np.uint8).reshape(count, -1)
            return
        place = row = 0
        for width, count in self.runs:
            length = count * record_bytes(self.shape[1], width)
            yield width, row, np.frombuffer(self.data, np.uint8, length, place).reshape(count, -1)
            place += length
            row += count


Vectors = NDArray[np.floating[Any]] | Packed


def plain(vectors: Vectors) -> NDArray[np.floating[Any]]:
    """Return vectors as an array."""
    return vectors.rows() if isinstance(vectors, Packed) else vectors


def plain_all(vectors: Sequence[Vectors]) -> list[NDArray[np.floating[Any]]]:
    """Return several messages' vectors as arrays.

    What is packed is unpacked together, which costs about as much as one of them alone; no row
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
    """Rows of messages of one size and rotation, one after the other, (n, d)."""
    size, rotation = messages[0].shape[1], messages[0].rotation
    of_width: dict[int, list[tuple[int, ByteArray]]] = {}
    first = 0
    for message in messages:
        for width, begin, records in message.parts():
            of_width.setdefault(width, []).append((first + begin, records))
        first += len(message)
    with np.errstate(all="ignore"):
        if len(of_width) == 1:
            ((width, found),) = of_width.items()
            rows = from_records(_joined(found), width, size=size)
            return rotate_back(rows, rotation) if width in WIDTHS else rows
        rows = np.empty((first, size), np.float32)
        turned = np.ones(first, bool)
        for width, found in of_width.items():
            values, taken = from_records(_joined(found), width, size=size), 0
            for begin, records in found:
                end = begin + len(records)
                rows[begin:end] = values[taken : taken + len(records)]
                turned[begin:end] = width in WIDTHS
                taken += len(records)
        if turned.all():
            return rotate_back(rows, rotation)
        rows[turned] = rotate_back(rows[turned], rotation)
        return rows


def _joined(found: Sequence[tuple[int, ByteArray]]) -> ByteArray:
    return found[0][1] if len(found) == 1 else np.concatenate([records for _, records in found])


def row_widths(vectors: Vectors) -> set[int]:
    """Bits of an entry that occur among vectors."""
    if isinstance(vectors, Packed):
        return {width for width, _ in vectors.runs}
    return {8 * vectors.dtype.itemsize}


def packed(runs: Sequence[tuple[int, ByteArray]], *, size: int, rotation: Rotation) -> Packed:
    """Put records together.

    Parameters
    ----------
    runs : sequence of (width, records)
        Records as `to_records` makes them, at least one.
    size : int
        Entries d of a row.
    rotation : "none" or "hadamard"
        That of the quantised ones.
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
    """Make rows ready to travel at one width.

    Parameters
    ----------
    rows : (n, d) float32
    width : int, bit
        One of `ROW_WIDTHS`; at 16 and 32 the result is an array.
    rotation : "none" or "hadamard"

    Returns
    -------
    Packed or (n, d) float16 or float32
        Rows that cannot be quantised, since a number is not finite, stand in it as float16; so
        they remain what they are, and theirs alone.
    """
    if width in _FLOAT_NAMES:
        with np.errstate(over="ignore"):  # beyond float16 is infinite, as in the model itself
            return rows.astype(_FLOAT_NAMES[width], copy=False)
    with np.errstate(all="ignore"):
        turned = rotate(rows, rotation)
        try:
            records = to_records(turned, width)
        except NotFinite:
            return _pack_around(rows, turned, width, rotation)
    return packed([(width, records)], size=rows.shape[1], rotation=rotation)


def _pack_around(
    rows: Float32Array, turned: Float32Array, width: int, rotation: Rotation
) -> Vectors:
    """Pack rows of which some are not finite, (n, d); those become float16."""
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


def packed_of(
    frame: bytes | bytearray | memoryview,
    *,
    shape: tuple[int, int],
    runs: tuple[Run, ...],
    rotation: Rotation,
    what: str,
    request_id: int,
) -> Packed:
    """Check a frame of packed rows, of which nothing is believed.

    Raises
    ------
    UnknownWidth
        If a width is none that rows have.
    ProtocolError
        If the runs are not for the shape's rows, the frame's length is another than they say, it
        would unpack to too much, or a step is not positive and finite.
    """
    count, size = shape
    told = sum(rows for _, rows in runs)
    if told != count:
        raise ProtocolError(
            f"{what} has {count} rows, its widths are for {told}: they are [[width, count], …] in "
            f"the order of the rows",
            request_id,
        )
    check_widths((width for width, _ in runs), known=ROW_WIDTHS, what=what, request_id=request_id)
    expected = sum(rows * record_bytes(size, width) for width, rows in runs)
    # A few bits become float32: what they unpack to is bounded as a frame of float32 is.
    if len(frame) != expected or count * size * 4 > MAX_FRAME_BYTES:
        raise ProtocolError(
            f"{what} {list(shape)} in widths {_listed(runs)} is {expected} bytes (at most "
            f"{MAX_FRAME_BYTES} unpacked), the frame has {len(frame)}",
            request_id,
        )
    result = Packed(shape=shape, runs=runs, rotation=rotation, data=frame)
    for width, begin, records in result.parts():
        if width in WIDTHS:
            _check_steps(records, first_row=begin, what=what, request_id=request_id)
    return result


def check_widths(widths: Any, *, known: Sequence[int], what: str, request_id: int = 0) -> None:
    """Raise UnknownWidth for the first width that is not known."""
    for width in widths:
        if width not in known:
            raise UnknownWidth(
                f"{what}: entries of {width} bits are not known here, only of "
                f"{', '.join(map(str, known))}",
                request_id,
            )


def _check_steps(records: ByteArray, *, first_row: int, what: str, request_id: int) -> None:
    steps = steps_of(records)
    # Zero would be the largest after one is taken off, a negative number is large as it is.
    good = steps - np.uint16(1) < _INFINITE - 1
    if good.all():
        return
    row = int(good.argmin())
    bits = int(steps[row])
    value = np.array([bits << 16], np.uint32).view(np.float32)[0]
    raise ProtocolError(
        f"{what}: the step of row {first_row + row} is {value}, it must be positive and finite",
        request_id,
    )


def _listed(runs: Sequence[Run]) -> str:
    shown = [list(run) for run in runs[:_LISTED]]
    more = len(runs) - len(shown)
    return f"{shown} and {more} more runs" if more else str(shown)
