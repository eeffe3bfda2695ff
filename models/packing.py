"""Codes of a few bits, eight of them in as many bytes as they have bits. Needs no torch.

Eight codes lie in memory as one 64-bit word with a code in every byte. Three steps close the gaps
between them, pair by pair, two by two, four by four; the word's lowest ``width`` bytes are then
the codes, the first one in the lowest bits. A row ends with a whole byte; bits behind its last code
are zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.models.quantise import STEP_BYTES, check_width

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ByteArray = NDArray[np.uint8]
    WordArray = NDArray[np.uint64]

#: Widths of entries that travel as they are, without a step: float16 and float32.
FLOAT_WIDTHS: Final = (16, 32)

_WORD = np.dtype("<u8")
_PER_WORD = 8


def packed_bytes(size: int, width: int) -> int:
    """Bytes that a row of ``size`` codes takes."""
    return -(-size * width // 8)


def row_bits(size: int, width: int) -> int:
    """Bits of a row of ``size`` entries on the air: codes with their padding, and the step.

    Parameters
    ----------
    size : int
        Entries d of the row.
    width : int, bit
        One of `siftmoe.models.quantise.WIDTHS`, or 16 or 32 for floating-point numbers.

    Raises
    ------
    ValueError
        If there is no such width.
    """
    if width in FLOAT_WIDTHS:
        return size * width
    check_width(width)
    return 8 * (STEP_BYTES + packed_bytes(size, width))


def pack(codes: ByteArray, width: int) -> ByteArray:
    """Pack codes (n, d) below 2^width into (n, `packed_bytes`) bytes."""
    check_width(width)
    if width == 8:
        return codes
    rows, size = codes.shape
    words = _whole_words(codes).view(_WORD)  # [n, g], one code in every byte
    for shift, low, high in _gaps(width):
        words = (words & low) | ((words & high) >> shift)
    lowest = words.view(np.uint8).reshape(rows, -1, _PER_WORD)[:, :, :width]  # [n, g, width]
    return lowest.reshape(rows, -1)[:, : packed_bytes(size, width)]


def unpack(packed: ByteArray, width: int, *, size: int) -> ByteArray:
    """Return the codes (n, size) that `pack` packed into (n, `packed_bytes`) bytes."""
    check_width(width)
    if width == 8:
        return packed
    rows = len(packed)
    groups = -(-size // _PER_WORD)
    spread = np.zeros((rows, groups, _PER_WORD), dtype=np.uint8)
    if packed.shape[1] == groups * width:
        spread[:, :, :width] = packed.reshape(rows, groups, width)
    else:
        whole = np.zeros((rows, groups * width), dtype=np.uint8)
        whole[:, : packed.shape[1]] = packed
        spread[:, :, :width] = whole.reshape(rows, groups, width)
    words = spread.reshape(rows, -1).view(_WORD)  # [n, g]
    for shift, low, high in reversed(_gaps(width)):
        words = (words & low) | ((words << shift) & high)
    return words.view(np.uint8)[:, :size]


def _whole_words(codes: ByteArray) -> ByteArray:
    """Codes in whole words, contiguous: zeros behind the last one."""
    rows, size = codes.shape
    if size % _PER_WORD == 0:
        return np.ascontiguousarray(codes)
    whole = np.zeros((rows, -(-size // _PER_WORD) * _PER_WORD), dtype=np.uint8)
    whole[:, :size] = codes
    return whole


def _gaps(width: int) -> list[tuple[np.uint64, np.uint64, np.uint64]]:
    """Shift, and masks of what stays and what moves, of the three steps.

    In step s fields of 8·2^s bits hold 2^s codes; the upper one of two is moved down to the lower.
    """
    steps = []
    for field, used in ((8, width), (16, 2 * width), (32, 4 * width)):
        low = high = 0
        for start in range(0, 64, 2 * field):
            low |= ((1 << used) - 1) << start
            high |= ((1 << used) - 1) << (start + field)
        steps.append((field - used, low, high))
    return [(np.uint64(shift), np.uint64(low), np.uint64(high)) for shift, low, high in steps]
