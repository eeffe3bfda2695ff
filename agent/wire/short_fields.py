"""Fields of short headers: numbers of variable length, times of 2 bytes, runs of widths."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

from siftmoe.agent.errors import ProtocolError
from siftmoe.agent.wire.bounds import MAX_ROWS, MAX_RUNS
from siftmoe.agent.wire.payload import Frame
from siftmoe.models.vectors.records import ROW_WIDTHS

Runs = tuple[tuple[int, int], ...]
#: Width, reply width, rows.
JointRuns = list[tuple[int, int, int]]

_CODE: Final = {width: code for code, width in enumerate(ROW_WIDTHS)}
_LAST: Final = 0x40
_VARINT_BYTES: Final = 3
#: Pattern of the first bfloat16 that is not finite.
_INFINITE: Final = 0x7F80


class Header:
    """Reads a short header; a `ProtocolError` where it ends too early."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._at = 0

    def byte(self) -> int:
        """Read a byte."""
        return self.number(1)

    def number(self, size: int) -> int:
        """Read a number of ``size`` bytes, lowest first."""
        end = self._at + size
        if end > len(self._frame):
            raise ProtocolError(f"a short header ends after {len(self._frame)} bytes, too early")
        value = int.from_bytes(self._frame[self._at : end], "little")
        self._at = end
        return value

    def varint(self) -> int:
        """Read a number in groups of 7 bits, the lowest first."""
        value = 0
        for place in range(_VARINT_BYTES):
            byte = self.byte()
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return value
        raise ProtocolError(f"a number of a short header has more than {_VARINT_BYTES} bytes")

    def seconds(self) -> float:
        """Read a time."""
        pattern = self.number(2)
        if pattern >= _INFINITE:
            raise ProtocolError("a time of a short header is negative or not finite")
        return float(struct.unpack("<f", struct.pack("<I", pattern << 16))[0])

    def runs(self, request_id: int) -> JointRuns:
        """Read runs of rows, up to the last one."""
        found: JointRuns = []
        rows = 0
        while True:
            both, count = self.byte(), self.varint()
            rows += count
            if both & 0x80 or not count or rows > MAX_ROWS or len(found) == MAX_RUNS:
                raise ProtocolError(
                    f"run {len(found)} of a short header has widths {both:#04x} and {count} rows: "
                    f"there are 1 to {MAX_ROWS} rows in at most {MAX_RUNS} runs",
                    request_id,
                )
            found.append((ROW_WIDTHS[both & 7], ROW_WIDTHS[both >> 3 & 7], count))
            if both & _LAST:
                return found

    def rest(self) -> Frame:
        """Return what is behind the fields that were read."""
        return self._frame[self._at :]


def varint(value: int) -> bytes:
    """Write a number in groups of 7 bits, the lowest first."""
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def seconds(value: float, *, up: bool = False) -> bytes:
    """Write a time as bfloat16, rounded down or ``up``: 3 digits of any size.

    Raises
    ------
    ValueError
        If the time is negative or not finite.
    """
    if not 0.0 <= value < 1e30:
        raise ValueError(f"a time must be finite and not negative, got {value} s")
    (pattern,) = struct.unpack("<I", struct.pack("<f", value))
    top = pattern >> 16
    exact = struct.unpack("<f", struct.pack("<I", top << 16))[0]
    if up and exact < value:
        top += 1
    elif not up and exact > value:
        top = max(top - 1, 0)
    return int(top).to_bytes(2, "little")


def write_runs(runs: JointRuns) -> bytes:
    """Write runs of rows; errors as ValueError where a width does not exist."""
    written = bytearray()
    for place, (width, reply, count) in enumerate(runs):
        last = _LAST if place == len(runs) - 1 else 0
        written.append(last | _CODE[reply] << 3 | _CODE[width])
        written += varint(count)
    return bytes(written)


def joined(runs: Runs, replies: Runs) -> JointRuns:
    """Join the runs of two widths of the same rows.

    Raises
    ------
    ValueError
        If they are of different numbers of rows.
    """
    ends = [list(accumulate(count for _, count in each)) for each in (runs, replies)]
    if ends[0][-1] != ends[1][-1]:
        raise ValueError(f"widths of {ends[0][-1]} rows and of {ends[1][-1]} answers")
    found: JointRuns = []
    begin = i = j = 0
    while i < len(runs):
        end = min(ends[0][i], ends[1][j])
        found.append((runs[i][0], replies[j][0], end - begin))
        begin = end
        i, j = i + (ends[0][i] == end), j + (ends[1][j] == end)
    return found


def merged(runs: Iterable[tuple[int, int]]) -> Runs:
    """Merge neighbouring runs of one width."""
    found: list[tuple[int, int]] = []
    for width, count in runs:
        if found and found[-1][0] == width:
            found[-1] = (width, found[-1][1] + count)
        else:
            found.append((width, count))
    return tuple(found)


def short_time(value: float) -> float:
    """Return a time as it arrives, rounded down."""
    return Header(seconds(value)).seconds() if math.isfinite(value) else value
