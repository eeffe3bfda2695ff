"""Converts rows to records in one call, and back, by compiled kernels or by numpy.

Both give the same bytes and numbers to the last bit. A process chooses one of them once when it
starts: loading `siftmoe.models.vectors.kernels` takes most of a second. Needs no torch.
"""

from __future__ import annotations

import logging
import sys
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from siftmoe.models.errors import KernelsUnavailable
from siftmoe.models.vectors.packing import packed_bytes
from siftmoe.models.vectors.quantise import (
    BETTER,
    LEAST_STEP,
    SQUARED_STEP,
    SQUARES_ROUNDING,
    STEP_ABOVE,
    STEP_BYTES,
    NotFinite,
    check_width,
    rotate,
    turn_back,
)
from siftmoe.models.vectors.records import (
    codes_of,
    record_bytes,
    steps_of,
    to_records,
    to_records_of,
)
from siftmoe.models.vectors.rotation import ROUNDING, signs_of, turns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.models.vectors.quantise import Rotation, Runs

    ByteArray = NDArray[np.uint8]
    Float32Array = NDArray[np.float32]

logger = logging.getLogger(__name__)

_TABLES: Final = np.zeros((3, 9))
_TABLES[0], _TABLES[1] = SQUARED_STEP, BETTER
_TABLES[2, :4] = LEAST_STEP, STEP_ABOVE, SQUARES_ROUNDING, ROUNDING
_FLOAT32: Final = np.dtype(np.float32)
_NO_SIGNS: Final = np.empty(0, np.float32)

#: The module of the kernels; None until they are loaded.
_kernels: Any = None


def load_kernels() -> bool:
    """Use compiled kernels from now on if numba is installed; returns whether they are used.

    The first call on a machine compiles them, which takes ten seconds or more; later calls load
    them from disk.
    """
    global _kernels
    if _kernels is None and sys.byteorder == "little":
        try:
            from siftmoe.models.vectors import kernels
        except (ImportError, RuntimeError) as error:  # not installed, not for this numpy, no cache
            logger.info("vectors are packed by numpy, not by compiled code: %s", error)
            return False
        _kernels = kernels
    return _kernels is not None


def choose(packing: Literal["auto", "compiled", "numpy"]) -> None:
    """Choose how vectors are packed: by compiled code, by numpy, or ("auto") by what is available.

    Raises
    ------
    KernelsUnavailable
        If compiled code is chosen and cannot be loaded.
    """
    global _kernels
    if packing == "numpy":
        _kernels = None
    elif not load_kernels() and packing == "compiled":
        raise KernelsUnavailable(
            "packing 'compiled' needs numba on a little-endian machine: pip install "
            "'siftmoe[fast]', or leave it to packing 'auto'"
        )


def active_packing() -> str:
    """Return "compiled" or "numpy"."""
    return "numpy" if _kernels is None else "compiled"


def write(rows: Float32Array, width: int, *, rotation: Rotation) -> ByteArray:
    """Rotate and quantise rows, and write their records one after the other.

    Parameters
    ----------
    rows : (n, d) float32
    width : int, bit
        One of `siftmoe.models.vectors.quantise.WIDTHS`.
    rotation : "none" or "hadamard"

    Returns
    -------
    (bytes,) uint8

    Raises
    ------
    NotFinite
        If a number of a row, or of the rotated row, is not finite.
    ValueError
        If there is no such width or rotation.
    """
    if _kernels is None:
        with np.errstate(all="ignore"):
            return to_records(rotate(rows, rotation), width).reshape(-1)
    count, size = rows.shape
    if not rows.flags.carray or rows.dtype is not _FLOAT32:  # the kernels are compiled for it
        rows = np.array(rows, np.float32, order="C")
    length, signs = _layout(size, width, rotation)
    records = np.empty(count * length, np.uint8)
    row = _kernels.encode(rows, width, signs, _TABLES, records)
    if row >= 0:
        raise NotFinite(row, width)
    return records


def write_runs(rows: Float32Array, runs: Runs, *, rotation: Rotation) -> list[ByteArray]:
    """Write rows of several widths; returns the records of each run, (count, bytes).

    Parameters
    ----------
    rows : (n, d) float32
    runs : sequence of (width, count)
        Widths of the rows in their order.

    Raises
    ------
    NotFinite, ValueError
        As `write`.
    """
    if _kernels is None:
        with np.errstate(all="ignore"):
            return to_records_of(rotate(rows, rotation), runs)
    found, begin = [], 0
    for width, count in runs:
        try:
            records = write(rows[begin : begin + count], width, rotation=rotation)
        except NotFinite as error:
            raise NotFinite(begin + error.row, width) from None
        found.append(records.reshape(count, _layout(rows.shape[1], width, rotation)[0]))
        begin += count
    return found


def read(records: ByteArray, runs: Runs, *, size: int, rotation: Rotation) -> Float32Array:
    """Read the rows (n, size) of consecutive records, and undo their rotation.

    Parameters
    ----------
    records : (bytes,) uint8
    runs : sequence of (width, count)
        Widths of the rows in their order.

    Raises
    ------
    ValueError
        If the records have another length, or there is no such width or rotation.
    """
    lengths = [count * _layout(size, width, rotation)[0] for width, count in runs]
    if sum(lengths) != len(records):
        raise ValueError(
            f"rows of {size} entries in widths {list(runs)} take {sum(lengths)} bytes, the records "
            f"are {len(records)}"
        )
    if _kernels is None:
        return _read(records, runs, size=size, rotation=rotation)
    rows = np.empty((sum([count for _, count in runs]), size), np.float32)
    row = place = 0
    for (width, count), length in zip(runs, lengths, strict=True):
        signs = _layout(size, width, rotation)[1]
        part = records[place : place + length]
        _kernels.decode(part, width, signs, rows[row : row + count])
        row, place = row + count, place + length
    return rows


def _read(records: ByteArray, runs: Runs, *, size: int, rotation: Rotation) -> Float32Array:
    """`read` in numpy: all rows of one width are unpacked together."""
    ends = accumulate(count * record_bytes(size, width) for width, count in runs)
    parts = [
        part.reshape(count, -1) if count else np.empty((0, record_bytes(size, width)), np.uint8)
        for part, (width, count) in zip(np.split(records, list(ends)), runs, strict=False)
    ]
    if len(parts) == 1:
        codes, steps = codes_of(parts[0], runs[0][0], size=size), steps_of(parts[0])
    else:
        codes = np.empty((sum(count for _, count in runs), size), np.uint8)
        starts = list(accumulate((count for _, count in runs), initial=0))
        for width in {width for width, _ in runs}:
            here = [place for place, (of, _) in enumerate(runs) if of == width]
            found = codes_of(np.concatenate([parts[place] for place in here]), width, size=size)
            taken = 0
            for place in here:
                count = runs[place][1]
                codes[starts[place] : starts[place] + count] = found[taken : taken + count]
                taken += count
        steps = np.concatenate([steps_of(part) for part in parts])
    with np.errstate(all="ignore"):
        return turn_back(codes, steps, runs, rotation=rotation)


@lru_cache(maxsize=256)
def _layout(size: int, width: int, rotation: Rotation) -> tuple[int, Float32Array]:
    """Bytes of a quantised row's record, and the signs of its rotation (empty without one)."""
    check_width(width)
    return STEP_BYTES + packed_bytes(size, width), signs_of(size) if turns(rotation) else _NO_SIGNS
