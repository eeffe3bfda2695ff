"""Rows to records in one call, and back: the compiled kernels where they were loaded, or numpy.

Both give the same bytes and numbers to the last bit. Which one runs is the process's choice, made
once when it starts: `load_kernels` takes about a second, `siftmoe.models.kernels`. Needs no torch.
"""

from __future__ import annotations

import logging
import sys
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from siftmoe.models.packing import packed_bytes
from siftmoe.models.quantise import (
    BETTER,
    LEAST_STEP,
    SQUARED_STEP,
    SQUARES_ROUNDING,
    STEP_ABOVE,
    STEP_BYTES,
    check_width,
    not_finite,
    rotate,
    turn_back,
)
from siftmoe.models.records import codes_of, steps_of, to_records_of
from siftmoe.models.rotation import ROUNDING, signs_of, turns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.models.quantise import Rotation, Runs

    ByteArray = NDArray[np.uint8]
    Float32Array = NDArray[np.float32]

logger = logging.getLogger(__name__)

_TABLES: Final = np.zeros((3, 9))
_TABLES[0], _TABLES[1] = SQUARED_STEP, BETTER
_TABLES[2, :4] = LEAST_STEP, STEP_ABOVE, SQUARES_ROUNDING, ROUNDING
_FLOAT32: Final = np.dtype(np.float32)
_NO_SIGNS: Final = np.empty(0, np.float32)

#: The module of the kernels, once they are loaded.
_kernels: Any = None


def load_kernels() -> bool:
    """Run compiled kernels from now on where numba is installed; says whether they do.

    The first time on a machine they are compiled, which takes many seconds; later they come from
    the disk.
    """
    global _kernels  # noqa: PLW0603  which code runs is the process's choice
    if _kernels is None and sys.byteorder == "little":
        try:
            from siftmoe.models import kernels
        except ImportError as error:  # not installed, or not with this numpy
            logger.info("rows are packed by numpy: %s", error)
            return False
        _kernels = kernels
    return _kernels is not None


def what_runs() -> str:
    """Return "compiled" or "numpy"."""
    return "numpy" if _kernels is None else "compiled"


def write(rows: Float32Array, runs: Runs, *, rotation: Rotation) -> ByteArray:
    """Turn rows, quantise them and write their records one after the other.

    Parameters
    ----------
    rows : (n, d) float32
    runs : sequence of (width, count)
        Widths of the rows in their order; of `siftmoe.models.quantise.WIDTHS`.
    rotation : "none" or "hadamard"

    Returns
    -------
    (bytes,) uint8

    Raises
    ------
    NotFinite
        If a number, or one of the turned row, is not finite.
    ValueError
        If there is no such width or rotation.
    """
    runs = tuple(runs)
    if _kernels is None:
        with np.errstate(all="ignore"):
            flat = [part.reshape(-1) for part in to_records_of(rotate(rows, rotation), runs)]
        return flat[0] if len(flat) == 1 else np.concatenate(flat)
    layout = _layout(runs, rows.shape[1], rotation)
    if not rows.flags.carray or rows.dtype is not _FLOAT32:  # what it is compiled for
        rows = np.array(rows, np.float32, order="C")
    out = np.empty(layout.bytes, np.uint8)
    row = _kernels.encode(rows, layout.runs, layout.signs, _TABLES, out)
    if row >= 0:
        raise not_finite(row, runs)
    return out


def read(records: ByteArray, runs: Runs, *, size: int, rotation: Rotation) -> Float32Array:
    """Read the rows (n, size) that `write` wrote, and turn them back.

    Parameters
    ----------
    records : (bytes,) uint8
        As many as the runs say.

    Raises
    ------
    ValueError
        If there are more or fewer bytes, or there is no such width or rotation.
    """
    runs = tuple(runs)
    if _kernels is None:
        with np.errstate(all="ignore"):
            return _read(records, runs, size=size, rotation=rotation)
    layout = _layout(runs, size, rotation)
    if len(records) != layout.bytes:
        raise ValueError(f"rows in {runs} are {layout.bytes} bytes, the records {len(records)}")
    rows = np.empty((layout.rows, size), np.float32)
    _kernels.decode(records, layout.runs, layout.signs, rows)
    return rows


class _Layout(NamedTuple):
    """What kernels are told of rows: (r, 2) runs, signs (block,) or none; their bytes and rows."""

    runs: NDArray[np.int64]
    signs: Float32Array
    bytes: int
    rows: int


@lru_cache(maxsize=256)
def _layout(runs: tuple[tuple[int, int], ...], size: int, rotation: Rotation) -> _Layout:
    return _Layout(
        runs=np.array(runs, np.int64).reshape(-1, 2),
        signs=signs_of(size) if turns(rotation) else _NO_SIGNS,
        bytes=sum(_length(size, width) * count for width, count in runs),
        rows=sum(count for _, count in runs),
    )


def split(records: ByteArray, runs: Runs, *, size: int) -> list[ByteArray]:
    """Split records that stand one after the other into matrices, one of each run."""
    lengths = [_length(size, width) for width, _ in runs]
    ends = [0, *accumulate(n * count for n, (_, count) in zip(lengths, runs, strict=True))]
    return [
        records[a:b].reshape(count, length)
        for length, (_, count), (a, b) in zip(lengths, runs, pairwise(ends), strict=True)
    ]


def _read(records: ByteArray, runs: Runs, *, size: int, rotation: Rotation) -> Float32Array:
    """`read` in numpy: what is of one width is unpacked together."""
    parts = split(records, runs, size=size)
    if len(parts) == 1:
        ((width, _),), (part,) = runs, parts
        return turn_back(
            codes_of(part, width, size=size), steps_of(part), runs, rotation=rotation
        )
    codes = np.empty((sum(count for _, count in runs), size), np.uint8)
    starts = list(accumulate((count for _, count in runs), initial=0))
    for width in {width for width, _ in runs}:
        here = [place for place, (of, _) in enumerate(runs) if of == width]
        found = codes_of(np.concatenate([parts[place] for place in here]), width, size=size)
        taken = 0
        for place in here:
            count = len(parts[place])
            codes[starts[place] : starts[place] + count] = found[taken : taken + count]
            taken += count
    steps = np.concatenate([steps_of(part) for part in parts])
    return turn_back(codes, steps, runs, rotation=rotation)


def _length(size: int, width: int) -> int:
    """Bytes of the record of a quantised row."""
    check_width(width)
    return STEP_BYTES + packed_bytes(size, width)
