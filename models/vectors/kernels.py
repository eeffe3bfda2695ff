"""Compiled rotation, quantisation and packing of rows in one call. Needs numba, no torch.

The results equal those of `quantise` and `packing` to the last bit; formulas and formats are
explained there. Sums are exact; all other arithmetic is IEEE in the order written there. After an
expert has filled the caches, one call is reloaded sooner than dozens of numpy calls.

Importing this file compiles the kernels, or loads them from the cache. Little-endian only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import numba
import numpy as np
from numba import types

Kernel = Callable[..., Any]

_ROWS, _SIGNS = types.float32[:, ::1], types.float32[::1]
_ENCODE: Final = types.int64(_ROWS, types.int64, _SIGNS, types.float64[:, ::1], types.uint8[::1])
_DECODE: Final = [
    types.void(types.Array(types.uint8, 1, "C", readonly=readonly), types.int64, _SIGNS, _ROWS)
    for readonly in (False, True)
]
_BYTES, _PAIRS = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF)
_FOURS = np.uint64(0x00000000FFFFFFFF)


def compiled(signature: Any = None) -> Callable[[Kernel], Kernel]:
    """Compile with a cache on disk, without the GIL, in strict IEEE; at once for a signature."""
    options = {"cache": True, "nogil": True, "error_model": "numpy"}
    return cast("Callable[[Kernel], Kernel]", numba.njit(signature, **options))


@compiled()
def _mix_four(x: Any, y: Any) -> None:
    """Two butterflies: sums and differences of four neighbours of x, into the quarters of y."""
    size = len(x) >> 2
    y0, y1, y2, y3 = y[:size], y[size : 2 * size], y[2 * size : 3 * size], y[3 * size :]
    for i in range(size):
        x0, x1, x2, x3 = x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]
        a, b, c, d = x0 + x1, x2 + x3, x0 - x1, x2 - x3
        y0[i] = a + b
        y1[i] = c + d
        y2[i] = a - b
        y3[i] = c - d


@compiled()
def _mix_two(x: Any, y: Any) -> None:
    """One butterfly: sums and differences of two neighbours of x, into the two halves of y."""
    size = len(x) >> 1
    y0, y1 = y[:size], y[size:]
    for i in range(size):
        y0[i] = x[2 * i] + x[2 * i + 1]
        y1[i] = x[2 * i] - x[2 * i + 1]


@compiled()
def _mix(x: Any, y: Any) -> bool:
    """Multiply a block, whose length is a power of two, by the Hadamard matrix.

    Every butterfly reads and writes memory in order, and after all of them the entries are in their
    original order. Overwrites the block x and scratch y; returns whether the result is in y.
    """
    left = len(x)
    while left >= 16:
        _mix_four(x, y)
        _mix_four(y, x)
        left >>= 4
    if left == 8:
        _mix_four(x, y)
        _mix_two(y, x)
    elif left == 4:
        _mix_four(x, y)
    elif left == 2:
        _mix_two(x, y)
    return left == 4 or left == 2


@compiled()
def _largest_bits(row: Any, spare: Any) -> Any:
    """Bits of the largest magnitude; those of a number that is not finite are above all others.

    ``spare`` (d,) uint32 is scratch: its halves are compared repeatedly, many entries at once.
    """
    bits = row.view(np.uint32)
    for i in range(len(row)):
        spare[i] = bits[i] & np.uint32(0x7FFFFFFF)
    left = len(row)
    while left > 1:
        half = (left + 1) >> 1
        upper = spare[half:left]
        for i in range(len(upper)):
            spare[i] = max(spare[i], upper[i])
        left = half
    return spare[0]


@compiled()
def _rounding(bits: Any, one: Any, factor: float) -> Any:
    """Power of two below a magnitude given by its bits, times a factor; ``one`` is scratch."""
    one[0] = bits & np.uint32(0x7F800000)
    return np.float64(one.view(np.float32)[0]) * factor


@compiled()
def _turn(row: Any, signs: Any, exact: Any, spare: Any, rounding: float, turned: Any) -> None:
    """Rotate a row (d,) into ``turned``; ``exact`` and ``spare`` (block,) are scratch."""
    block = len(signs)
    scale = 1.0 / np.sqrt(np.float64(block))
    for begin in range(0, len(row), block):
        part, out = row[begin : begin + block], turned[begin : begin + block]
        for i in range(block):
            exact[i] = ((np.float64(part[i]) + rounding) - rounding) * np.float64(signs[i])
        mixed = spare if _mix(exact, spare) else exact
        for i in range(block):
            out[i] = np.float32(mixed[i] * scale)


@compiled()
def _squares(row: Any, rounding: float, spare: Any) -> Any:
    """Sum of the squares of rounded entries: exact. ``spare`` (d,) float64 is scratch."""
    for i in range(len(row)):
        entry = (np.float64(row[i]) + rounding) - rounding
        spare[i] = entry * entry
    left = len(row)
    while left > 1:
        half = (left + 1) >> 1
        upper = spare[half:left]
        for i in range(len(upper)):
            spare[i] += upper[i]
        left = half
    return spare[0]


@compiled()
def _step(row: Any, bits: Any, width: int, one: Any, tables: Any, spare: Any) -> Any:
    """Bits of a row's step, a bfloat16 value, as float32; ``bits`` are the largest entry's."""
    one[0] = bits
    largest = one.view(np.float32)[0]
    step = largest / np.float32(1 << (width - 1))
    if tables[0, width] > 0.0:
        squares = _squares(row, _rounding(bits, one, tables[2, 2]), spare)
        finer = np.sqrt(squares * (tables[0, width] / len(row)))
        if np.float64(largest) * tables[1, width] > finer:
            step = np.float32(finer)
    one.view(np.float32)[0] = max(step, np.float32(tables[2, 0]))
    return (one[0] + np.uint32(tables[2, 1])) & np.uint32(0xFFFF0000)


@compiled()
def _codes(row: Any, step: Any, width: int, codes: Any) -> None:
    half, most = np.float32(1 << (width - 1)), np.float32((1 << width) - 0.5)
    inverse = np.float32(1.0) / step
    for i in range(len(row)):
        level = max(row[i] * inverse + half, np.float32(0.0))
        codes[i] = np.uint8(np.int32(min(level, most)))


@compiled()
def _pack(words: Any, width: int, out: Any) -> None:
    """Close the gaps between the eight codes of every word and write its bytes; words change."""
    one, two, four = np.uint64(width), np.uint64(2 * width), np.uint64(4 * width)
    for i in range(len(words)):
        word = words[i]
        word = (word & _BYTES) | ((word >> np.uint64(8)) & _BYTES) << one
        word = (word & _PAIRS) | ((word >> np.uint64(16)) & _PAIRS) << two
        words[i] = (word & _FOURS) | (word >> np.uint64(32)) << four
    whole = len(out) // width
    for i in range(whole):
        part = out[i * width : i * width + width]
        for k in range(width):
            part[k] = np.uint8(words[i] >> np.uint64(8 * k) & np.uint64(0xFF))
    for k in range(len(out) - whole * width):
        out[whole * width + k] = np.uint8(words[whole] >> np.uint64(8 * k) & np.uint64(0xFF))


@compiled()
def _unpack(packed: Any, width: int, words: Any) -> None:
    """Undo `_pack`."""
    whole = len(packed) // width
    for i in range(whole):
        part = packed[i * width : i * width + width]
        word = np.uint64(0)
        for k in range(width):
            word |= np.uint64(part[k]) << np.uint64(8 * k)
        words[i] = word
    words[whole:] = 0
    for k in range(len(packed) - whole * width):
        words[whole] |= np.uint64(packed[whole * width + k]) << np.uint64(8 * k)
    one, two, four = np.uint64(width), np.uint64(2 * width), np.uint64(4 * width)
    fours = (np.uint64(1) << four) - np.uint64(1)
    pairs = ((np.uint64(1) << two) - np.uint64(1)) * np.uint64(0x0000000100000001)
    singles = ((np.uint64(1) << one) - np.uint64(1)) * np.uint64(0x0001000100010001)
    for i in range(len(words)):
        word = words[i]
        word = (word & fours) | (word >> four) << np.uint64(32)
        word = (word & pairs) | ((word >> two) & pairs) << np.uint64(16)
        words[i] = (word & singles) | ((word >> one) & singles) << np.uint64(8)


@compiled(_ENCODE)
def encode(rows: Any, width: Any, signs: Any, tables: Any, out: Any) -> Any:
    """Write the records of rows one after the other into ``out``, (bytes,) uint8.

    Parameters
    ----------
    rows : (n, d) float32
    width : int, bit
    signs : (block,) float32
        `siftmoe.models.vectors.rotation.signs_of` d; if empty, rows are not rotated.
    tables : (3, 9) float64
        By width: the squared optimal step, and the factor on a row's largest magnitude; then the
        least step, the increment of a step's bits, the roundings of squares and of entries.

    Returns
    -------
    The first row with a number that is not finite, which cannot be quantised; -1 if there is none.
    """
    size = rows.shape[1]
    length = (size * width + 7) // 8
    block, whole = len(signs), (size + 7) // 8
    # one array for all scratch, for speed
    scratch = np.empty(block + size + whole + 1 + (size + 1) // 2, np.uint64)
    exact = scratch[:block].view(np.float64)
    spare = scratch[block : block + size].view(np.float64)
    magnitudes = scratch[block : block + size].view(np.uint32)
    words = scratch[block + size : block + size + whole]
    codes = words.view(np.uint8)
    one = scratch[block + size + whole : block + size + whole + 1].view(np.uint32)
    turned = scratch[block + size + whole + 1 :].view(np.float32)[:size]
    for r in range(len(rows)):
        row = rows[r]
        if block:
            rounding = _rounding(_largest_bits(row, magnitudes), one, tables[2, 3])
            _turn(row, signs, exact, spare[:block], rounding, turned)
            row = turned
        bits = _largest_bits(row, magnitudes)
        if bits >= np.uint32(0x7F800000):
            return r
        one[0] = _step(row, bits, width, one, tables, spare)
        record = out[r * (length + 2) : (r + 1) * (length + 2)]
        record[0] = np.uint8(one[0] >> np.uint32(16) & np.uint32(0xFF))
        record[1] = np.uint8(one[0] >> np.uint32(24))
        step = one.view(np.float32)[0]
        if width == 8:
            _codes(row, step, width, record[2:])
        else:
            words[-1] = 0  # behind the last code
            _codes(row, step, width, codes)
            if width == 3:  # with a literal here the compiler makes another specialisation
                _pack(words, 3, record[2:])
            elif width == 4:
                _pack(words, 4, record[2:])
            else:
                _pack(words, width, record[2:])
    return -1


@compiled(_DECODE)
def decode(records: Any, width: Any, signs: Any, rows: Any) -> None:
    """Read consecutive records, (bytes,) uint8, into rows; parameters as in `encode`."""
    size, block = rows.shape[1], len(signs)
    length, whole = (size * width + 7) // 8, (size + 7) // 8
    scratch = np.empty(whole + 1 + (block + 1) // 2, np.uint64)
    words, one = scratch[:whole], scratch[whole : whole + 1].view(np.uint32)
    codes = words.view(np.uint8)
    spare = scratch[whole + 1 :].view(np.float32)[:block]
    scale = np.float32(1.0 / np.sqrt(np.float64(block if block else 1)))
    middle = np.float32(1 << (width - 1)) - np.float32(0.5)
    for r in range(len(rows)):
        row = rows[r]
        record = records[r * (length + 2) : (r + 1) * (length + 2)]
        one[0] = np.uint32(record[0]) << np.uint32(16) | np.uint32(record[1]) << np.uint32(24)
        step = one.view(np.float32)[0] * scale
        if width == 8:
            packed = record[2:]
            for i in range(size):
                row[i] = np.float32(packed[i]) - middle
        else:
            if width == 3:
                _unpack(record[2:], 3, words)
            elif width == 4:
                _unpack(record[2:], 4, words)
            else:
                _unpack(record[2:], width, words)
            for i in range(size):
                row[i] = np.float32(codes[i]) - middle
        if not block:
            for i in range(size):
                row[i] *= step
            continue
        for begin in range(0, size, block):
            part = row[begin : begin + block]
            mixed = spare if _mix(part, spare) else part
            for i in range(block):  # + 0 makes -0 positive, as in a matrix product
                part[i] = mixed[i] * step * signs[i] + np.float32(0.0)
