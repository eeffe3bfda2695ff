"""Check of packed rows that a peer has sent, before they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.agent.errors import ProtocolError, UnknownWidth
from siftmoe.agent.wire.bounds import MAX_FRAME_BYTES
from siftmoe.agent.wire.packed import Packed
from siftmoe.models.vectors.quantise import WIDTHS, Rotation
from siftmoe.models.vectors.records import ROW_WIDTHS, record_bytes, steps_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    ByteArray = NDArray[np.uint8]
    Run = tuple[int, int]

#: Bit pattern of the smallest positive bfloat16 that is not finite.
_INFINITE = 0x7F80
#: Most runs that an error message lists.
_LISTED = 8


def packed_of(
    frame: bytes | bytearray | memoryview,
    *,
    shape: tuple[int, int],
    runs: tuple[Run, ...],
    rotation: Rotation,
    what: str,
    request_id: int,
) -> Packed:
    """Check a frame of packed rows against its header.

    Raises
    ------
    UnknownWidth
        If a width is not one of `ROW_WIDTHS`.
    ProtocolError
        If the runs do not add up to the shape's rows, the frame has another length than they need,
        the unpacked rows would be too large, or a step is not positive and finite.
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
    # A few bits become float32: the unpacked rows are bounded as a frame of float32 is.
    if len(frame) != expected or count * size * 4 > MAX_FRAME_BYTES:
        raise ProtocolError(
            f"{what} {list(shape)} in widths {_listed(runs)} is {expected} bytes (at most "
            f"{MAX_FRAME_BYTES} unpacked), the frame has {len(frame)}",
            request_id,
        )
    result = Packed(shape=shape, runs=runs, rotation=rotation, data=frame)
    first_row = 0
    for width, records in result.parts():
        if width in WIDTHS:
            _check_steps(records, first_row=first_row, what=what, request_id=request_id)
        first_row += len(records)
    return result


def check_widths(
    widths: Iterable[int], *, known: Sequence[int], what: str, request_id: int = 0
) -> None:
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
    # As unsigned numbers, zero minus one is the largest and a negative number is large: one
    # comparison finds both.
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
