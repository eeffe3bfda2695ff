"""Rows turned so that every entry is spread over many. Needs no torch.

Models have channels whose entries are many times the others' and would set a quantiser's step for
the whole row. A row is multiplied by signs and a Hadamard matrix, both orthogonal, which makes its
entries nearly Gaussian; the receiver turns it back, and the norm of what was lost in between is
unchanged.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]

Rotation = Literal["none", "hadamard"]
ROTATIONS: Final[tuple[Rotation, ...]] = ("none", "hadamard")

#: Longest block that is rotated as a whole; longer ones cost more and gain nothing.
_MOST_ROTATED = 4096
#: Powers of two that one product takes: matrices of 16 have the least cost in all.
_MOST_MIXED = 4


def rotate(rows: Float32Array, rotation: Rotation) -> Float32Array:
    """Spread every entry of a row over its block: signs, then a Hadamard matrix.

    A block is the largest power of two that divides the row's length.

    Parameters
    ----------
    rows : (n, d) float32
    rotation : "none" or "hadamard"
    """
    return _mixed(rows, _factors(rows.shape[1])) if _turns(rotation) else rows


def rotate_back(rows: Float32Array, rotation: Rotation) -> Float32Array:
    """Undo `rotate`."""
    return _mixed(rows, _factors(rows.shape[1], back=True)) if _turns(rotation) else rows


def _turns(rotation: Rotation) -> bool:
    if rotation not in ROTATIONS:
        raise ValueError(f"rotation must be one of {', '.join(ROTATIONS)}, got {rotation!r}")
    return rotation != "none"


def _mixed(rows: Float32Array, factors: tuple[Float32Array, ...]) -> Float32Array:
    """Multiply every block of rows (n, d) by the Kronecker product of matrices.

    Every product is of one row's, or one block's, entries alone, so what becomes of a row does not
    depend on the others to the last bit.
    """
    count, size = rows.shape
    first, *others = factors
    inner = len(first)
    mixed: Float32Array = rows.reshape(count, size // inner, inner) @ first
    for factor in others:
        mixed = factor @ mixed.reshape(-1, len(factor), inner)
        inner *= len(factor)
    return mixed.reshape(rows.shape)


@lru_cache(maxsize=32)
def _factors(size: int, *, back: bool = False) -> tuple[Float32Array, ...]:
    """Matrices whose Kronecker product turns a block, the first for products from the right."""
    power = min(size & -size, _MOST_ROTATED).bit_length() - 1
    parts = [_MOST_MIXED] * (power // _MOST_MIXED) + [power % _MOST_MIXED]
    turning = [_turning(part) for part in parts if part] or [_turning(0)]
    if back:
        turning = [matrix.T for matrix in turning]
    factors = (turning[0].T, *turning[1:])
    return tuple(np.ascontiguousarray(matrix) for matrix in factors)


def _turning(power: int) -> Float32Array:
    """Orthonormal Hadamard matrix of size 2^power whose columns have signs.

    The signs are those of x0 x1 + x2 x3, a bent function for four bits: a block of equal entries,
    or any other row of a Hadamard matrix, is spread over all entries like a single one.
    """
    matrix = np.ones((1, 1))
    for _ in range(power):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    x = np.arange(len(matrix))
    bent = (x & x >> 1) & 1 ^ (x >> 2 & x >> 3) & 1
    turning: Float32Array = (matrix * (1 - 2 * bent) / np.sqrt(len(matrix))).astype(np.float32)
    return turning
