"""Payload frames: arrays to raw little-endian bytes and back, checked against the header.

Requests are often one row long and arrive just after an expert's weights went through the
processor's caches, when a numpy call takes ten times its usual time: so few calls are made, and
short lists of numbers are checked in Python.
"""

from __future__ import annotations

import math
import sys
from typing import Any, Final

import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from siftmoe.agent.errors import ProtocolError
from siftmoe.agent.wire.bounds import MAX_EXPERTS, MAX_FRAME_BYTES, MAX_PAIRS
from siftmoe.agent.wire.packed import Packed, Vectors
from siftmoe.models.vectors.quantise import Rotation

Frame = bytes | bytearray | memoryview

#: A smaller frame is copied, which is cheaper than tracking when ZeroMQ releases it (11 µs,
#: measured).
ZERO_COPY_BYTES: Final = 64 * 1024

_DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}
_NAMES = {np.dtype(np.float32): "float32", np.dtype(np.float16): "float16"}
_INT32 = np.dtype("<i4")
_FLOAT32 = np.dtype("<f4")
_PAIR_BYTES = 2 * _INT32.itemsize
_SHORT = 32
_SMALL_BYTES = 4 * 1024
_LITTLE_ENDIAN = sys.byteorder == "little"


def dtype_name(array: Vectors, what: str) -> Any:
    """Return the name of [n, d] vectors' dtype on the wire; TypeError, ValueError if none."""
    if isinstance(array, Packed):
        return "packed"
    name = _NAMES.get(array.dtype)
    if name is None:
        raise TypeError(f"{what} is float32 or float16, got {array.dtype}")
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{what} is [n, d] and not empty, got shape {array.shape}")
    return name


def runs_and_rotation(
    vectors: Vectors,
) -> tuple[tuple[tuple[int, int], ...] | UnsetType, Rotation | UnsetType]:
    """Return the header fields ``widths`` and ``rotation``; UNSET for an array."""
    return (vectors.runs, vectors.rotation) if isinstance(vectors, Packed) else (UNSET, UNSET)


def frame_of(array: NDArray[Any] | Packed) -> Frame:
    """Return an array's bytes in C order; a view of them if it is contiguous and not small."""
    if isinstance(array, Packed):
        return array.data
    if array.nbytes < _SMALL_BYTES and _LITTLE_ENDIAN:
        return array.tobytes()
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data


def matrix_of(
    frame: Frame, *, dtype: str, shape: tuple[int, int], what: str, request_id: int
) -> NDArray[np.floating[Any]]:
    """View a frame as [n, d]; ProtocolError if its length is another."""
    kind = _DTYPES[dtype]
    expected = shape[0] * shape[1] * kind.itemsize
    if expected > MAX_FRAME_BYTES or len(frame) != expected:
        raise ProtocolError(
            f"{what} {list(shape)} {dtype} is {expected} bytes (at most {MAX_FRAME_BYTES}), "
            f"the frame has {len(frame)}",
            request_id,
        )
    matrix: NDArray[np.floating[Any]] = np.frombuffer(frame, kind).reshape(shape)
    return matrix  # [n, d]


def pairs_of(frame: Frame, *, num_rows: int, request_id: int) -> NDArray[np.int32]:
    """View a frame as (row, expert) pairs [m, 2], each within bounds, else ProtocolError."""
    m, rest = divmod(len(frame), _PAIR_BYTES)
    if rest or not 1 <= m <= MAX_PAIRS:
        raise ProtocolError(
            f"pairs are int32 [m, 2] with 1 <= m <= {MAX_PAIRS}, the frame has {len(frame)} bytes",
            request_id,
        )
    pairs = np.frombuffer(frame, _INT32).reshape(m, 2)
    # Seen as unsigned a negative index is a huge one: one comparison checks both ends.
    unsigned = pairs.view(np.uint32)
    highest = unsigned.tolist() if m <= _SHORT else [unsigned.max(axis=0).tolist()]
    for row, expert in highest:
        if row >= num_rows or expert >= MAX_EXPERTS:
            raise ProtocolError(
                f"a pair is (row, expert) with 0 <= row < {num_rows} and 0 <= expert < "
                f"{MAX_EXPERTS}, got one outside",
                request_id,
            )
    return pairs


def weights_of(frame: Frame, *, num_pairs: int, request_id: int) -> NDArray[np.float32]:
    """View a frame as finite weights [m], else ProtocolError."""
    if len(frame) != num_pairs * _FLOAT32.itemsize:
        raise ProtocolError(
            f"weights are float32 [m] for {num_pairs} pairs, the frame has {len(frame)} bytes",
            request_id,
        )
    weights = np.frombuffer(frame, _FLOAT32)
    # In double precision a sum of finite float32 is finite, and one that is not shows in it.
    total = sum(weights.tolist()) if num_pairs <= _SHORT else weights.sum(dtype=np.float64)
    if not math.isfinite(total):
        raise ProtocolError("weights must be finite", request_id)
    return weights
