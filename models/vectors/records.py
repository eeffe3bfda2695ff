"""Writes rows as records: bytes whose length follows from the row's size and width. No torch.

A quantised row's record is its step (bfloat16) and then its packed codes; a row of 16 or 32 bits is
its float16 or float32 numbers and has no step. Records are little-endian. All records of one width
have the same length, so n of them are a matrix of bytes, and the record of a row that is sent to
several agents is written once.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siftmoe.models.vectors.packing import FLOAT_WIDTHS, pack, packed_bytes, row_bits, unpack
from siftmoe.models.vectors.quantise import STEP_BYTES, WIDTHS, quantise, quantise_runs, reconstruct

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.models.vectors.quantise import Runs

    Float32Array = NDArray[np.float32]
    ByteArray = NDArray[np.uint8]

#: Bits per entry of a row on the wire, ascending.
ROW_WIDTHS: Final = (*WIDTHS, *FLOAT_WIDTHS)

_STEP = np.dtype("<u2")
_FLOATS: dict[int, np.dtype[Any]] = {16: np.dtype("<f2"), 32: np.dtype("<f4")}


def record_bytes(size: int, width: int) -> int:
    """Bytes of the record of a row of ``size`` entries; ValueError if there is no such width."""
    return row_bits(size, width) // 8


def to_records(rows: Float32Array, width: int) -> ByteArray:
    """Write rows as records.

    Parameters
    ----------
    rows : (n, d) float32
        Already rotated (`siftmoe.models.vectors.quantise.rotate`) if they are to be rotated.
    width : int, bit
        One of `ROW_WIDTHS`. At 16, numbers beyond the range of float16 become infinite.

    Returns
    -------
    (n, `record_bytes`) uint8

    Raises
    ------
    NotFinite
        If a number to be quantised is not finite.
    ValueError
        If there is no such width.
    """
    if width in _FLOATS:
        return np.ascontiguousarray(rows, _FLOATS[width]).view(np.uint8)
    return _written(*quantise(rows, width), width)


def to_records_of(rows: Float32Array, runs: Runs) -> list[ByteArray]:
    """Write quantised rows in runs of (width, count); returns the records of each run.

    Raises
    ------
    NotFinite, ValueError
        As `to_records`.
    """
    codes, steps = quantise_runs(rows, runs)
    ends = [0, *accumulate(count for _, count in runs)]
    return [
        _written(codes[a:b], steps[a:b], width)
        for (width, _), (a, b) in zip(runs, pairwise(ends), strict=True)
    ]


def _written(codes: ByteArray, steps: NDArray[np.uint16], width: int) -> ByteArray:
    records = np.empty((len(codes), STEP_BYTES + packed_bytes(codes.shape[1], width)), np.uint8)
    records[:, :STEP_BYTES] = steps.astype(_STEP, copy=False)[:, None].view(np.uint8)
    pack(codes, width, out=records[:, STEP_BYTES:])
    return records


def from_records(records: ByteArray, width: int, *, size: int) -> Float32Array:
    """Read the rows (n, size) of `to_records`; their rotation is not undone."""
    if width in _FLOATS:
        return records.view(_FLOATS[width]).astype(np.float32)
    return reconstruct(codes_of(records, width, size=size), steps_of(records), width)


def codes_of(records: ByteArray, width: int, *, size: int) -> ByteArray:
    """Read the codes (n, size) of the records of quantised rows."""
    return unpack(records[:, STEP_BYTES:], width, size=size)


def steps_of(records: ByteArray) -> NDArray[np.uint16]:
    """Read the steps (n,), bits of bfloat16, of the records of quantised rows."""
    steps: NDArray[np.uint16] = records[:, :STEP_BYTES].copy().view(_STEP)[:, 0]
    return steps
