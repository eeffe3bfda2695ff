"""Packs codes of a few bits side by side into bytes, without gaps. Needs no torch.

The first code occupies the lowest bits of the first byte, the next one the bits above it, and so
on; a row begins with a whole byte, and the bits behind its last code are zero. Two codes of up to 4
bits fit into a byte and are joined first. Codes of 5 and 6 bits are handled as words of eight or
four bytes with one code per byte: steps close the gaps between neighbours, pairs and fours, and the
word's lowest bytes are then the packed codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siftmoe.models.vectors.quantise import STEP_BYTES, check_width

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ByteArray = NDArray[np.uint8]

#: Widths of entries that travel as floating-point numbers, without a step: float16 and float32.
FLOAT_WIDTHS: Final = (16, 32)

_BYTE = 8
_PAIR = np.dtype("<u2")
#: Widths of which two codes fit into one byte.
_PAIRED = 4
#: Rows are padded to a multiple of it for packing.
_WHOLE = 8
#: Width -> codes of the shortest word that ends at a byte border.
_PER_WORD = {5: 8, 6: 4}
_LANES = tuple(np.dtype(f"<u{size}") for size in (2, 4, 8))


def _steps(width: int) -> tuple[tuple[np.dtype[Any], Any, Any, Any], ...]:
    """For every step of a width: lanes, half their bits h, used bits c of a half, and a factor.

    A lane holds the codes of its lower half and, h bits above, those of its upper half, c bits
    each. ``lane - upper * (2^h - 2^c)`` moves the upper codes next to the lower ones.
    """
    found = []
    for lane in _LANES:
        half = _BYTE * lane.itemsize // 2
        used = half * width // _BYTE
        numbers = (lane.type(number) for number in (half, used, (1 << half) - (1 << used)))
        found.append((lane, *numbers))
        if lane.itemsize == _PER_WORD[width]:
            break
    return tuple(found)


_STEPS = {width: _steps(width) for width in _PER_WORD}


def packed_bytes(size: int, width: int) -> int:
    """Bytes of a row of ``size`` codes."""
    return -(-size * width // 8)


def row_bits(size: int, width: int) -> int:
    """Bits of a row of ``size`` entries on the air: codes with their padding, and the step.

    Parameters
    ----------
    size : int
        Entries d of the row.
    width : int, bit
        One of `siftmoe.models.vectors.quantise.WIDTHS`, or 16 or 32 for floating-point numbers.

    Raises
    ------
    ValueError
        If there is no such width.
    """
    if width in FLOAT_WIDTHS:
        return size * width
    check_width(width)
    return 8 * (STEP_BYTES + packed_bytes(size, width))


def pack(codes: ByteArray, width: int, *, out: ByteArray | None = None) -> ByteArray:
    """Pack codes (n, d) below 2^width into (n, `packed_bytes`) bytes, into ``out`` if given."""
    check_width(width)
    if out is None:
        if width == _BYTE:
            return codes
        out = np.empty((len(codes), packed_bytes(codes.shape[1], width)), np.uint8)
    if width < _BYTE:
        codes = _filled(codes)
    while width <= _PAIRED:
        codes, width = _paired(codes, width), 2 * width
    if width == _BYTE:
        out[:] = codes[:, : out.shape[1]]
        return out
    words, used = _closed(codes, width), width * _PER_WORD[width] // _BYTE
    for place in range(used):
        part = out[:, place::used]
        part[:] = words[:, place :: _PER_WORD[width]][:, : part.shape[1]]
    return out


def unpack(packed: ByteArray, width: int, *, size: int) -> ByteArray:
    """Return the codes (n, size) that `pack` packed into (n, `packed_bytes`) bytes."""
    check_width(width)
    if width == _BYTE:
        return packed
    if width > _PAIRED:
        return _opened(packed, width, size=size)[:, :size]
    half = unpack(packed, 2 * width, size=-(-size // 2))
    return _split(half, width)[:, :size]


def _paired(codes: ByteArray, width: int) -> ByteArray:
    """Join neighbouring codes into one byte, (n, d) to (n, d / 2)."""
    pairs = codes.view(_PAIR)
    together: ByteArray = (pairs | pairs >> np.uint16(_BYTE - width)).astype(np.uint8)
    return together


def _split(codes: ByteArray, width: int) -> ByteArray:
    """Undo `_paired`, (n, d) to (n, 2 d)."""
    pairs = codes.astype(_PAIR)
    pairs |= pairs << np.uint16(_BYTE - width)
    pairs &= np.uint16(((1 << width) - 1) * 0x0101)
    return pairs.view(np.uint8)


def _closed(codes: ByteArray, width: int) -> ByteArray:
    """Close the gaps between the codes of every word, into its lowest bytes."""
    words = codes
    for lane, half, _, factor in _STEPS[width]:
        lanes = words.view(lane)
        upper = lanes >> half
        upper *= factor
        words = (lanes - upper).view(np.uint8)
    return words


def _opened(packed: ByteArray, width: int, *, size: int) -> ByteArray:
    """Undo `_closed`: at least ``size`` codes, one per byte."""
    per_word = _PER_WORD[width]
    words = np.zeros((len(packed), -(-size // per_word) * per_word), np.uint8)
    used = width * per_word // _BYTE
    for place in range(used):
        part = packed[:, place::used]
        words[:, place::per_word][:, : part.shape[1]] = part
    for lane, _, shift, factor in reversed(_STEPS[width]):
        lanes = words.view(lane)
        upper = lanes >> shift
        upper *= factor
        lanes += upper
    return words


def _filled(codes: ByteArray) -> ByteArray:
    """Contiguous codes, with rows padded with zeros to whole words."""
    rows, size = codes.shape
    if size % _WHOLE == 0:
        return np.ascontiguousarray(codes)
    whole = np.zeros((rows, -(-size // _WHOLE) * _WHOLE), dtype=np.uint8)
    whole[:, :size] = codes
    return whole
