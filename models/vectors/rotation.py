r"""Rotates rows by a signed Hadamard matrix, so that every entry is spread over many. No torch.

Models have channels whose entries are many times larger than the others and would determine a
quantiser's step for the whole row. A row is multiplied by signs and a Hadamard matrix, both
orthogonal, which makes its entries nearly Gaussian. The receiver undoes the rotation, which keeps
the norm of the quantisation error.

Sums are exact, and therefore the same to the last bit in any order, by a matrix product or by
butterflies (`siftmoe.models.vectors.kernels`):

- The sender sums in float64, with every entry rounded to a multiple of :math:`2^{-40} P`, where P
  is the power of two at or below the row's largest magnitude: 4096 entries below 2 P add up to at
  most :math:`2^{53}` of these units. The sum times :math:`1/\sqrt{N}` is then rounded to float32.
- The receiver sums in float32: levels are odd multiples of 1/2 below 128, of which 4096 add up to
  less than :math:`2^{20}`. The sum is then multiplied by :math:`\Delta/\sqrt{N}` in float32.
"""

from __future__ import annotations

from functools import lru_cache
from math import sqrt
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]
    Float64Array = NDArray[np.float64]

Rotation = Literal["none", "hadamard"]
ROTATIONS: Final[tuple[Rotation, ...]] = ("none", "hadamard")

#: Longest block that is rotated as a whole; a longer one costs more without a smaller error.
_MOST_ROTATED = 4096
#: Powers of two per matrix product: matrices of size 16 have the lowest total cost.
_MOST_MIXED = 4
#: Exponent bits of a float32; alone they are the power of two at or below its magnitude.
_EXPONENT = np.uint32(0x7F800000)
#: Rounds entries: times P, it is added and subtracted again. 1.5 * 2^52 times the rounding unit.
ROUNDING: Final = 1.5 * 2.0**12


def rotate(rows: Float32Array, rotation: Rotation) -> Float32Array:
    """Spread every entry of a row over its block: signs, then a Hadamard matrix.

    A block is the largest power of two that divides the row's length.

    Parameters
    ----------
    rows : (n, d) float32
        A row with a number that is not finite becomes a row of such numbers.
    rotation : "none" or "hadamard"
    """
    return _turned(rows, back=False) if turns(rotation) else rows


def rotate_back(rows: Float32Array, rotation: Rotation) -> Float32Array:
    """Undo `rotate`."""
    return _turned(rows, back=True) if turns(rotation) else rows


def turn_back_levels(levels: Float32Array, steps: Float32Array, rotation: Rotation) -> Float32Array:
    """Undo the rotation of rows (n, d) given as levels, odd multiples of 1/2, and steps (n,).

    Parameters
    ----------
    levels : (n, d) float32
        May be overwritten.
    steps : (n,) float32
    rotation : "none" or "hadamard"
    """
    if turns(rotation):
        size = levels.shape[1]
        levels = _mixed(levels, _factors(size, back=True, dtype="float32"))
        steps = steps * np.float32(1.0 / sqrt(block_of(size)))
    levels *= steps[:, None]
    return levels


def turns(rotation: Rotation) -> bool:
    """Whether a rotation changes rows; ValueError if it is unknown."""
    if rotation not in ROTATIONS:
        raise ValueError(f"rotation must be one of {', '.join(ROTATIONS)}, got {rotation!r}")
    return rotation != "none"


def block_of(size: int) -> int:
    """Length of the blocks in which a row of ``size`` entries is rotated: a power of two."""
    return min(size & -size, _MOST_ROTATED)


def power_below(magnitudes: Float32Array) -> Float32Array:
    """Power of two at or below each magnitude, (n,); 0 where it is not a normal number."""
    power: Float32Array = (magnitudes.view(np.uint32) & _EXPONENT).view(np.float32)
    return power


@lru_cache(maxsize=32)
def signs_of(size: int) -> Float32Array:
    """Signs of a block's entries, those of x0 x1 + x2 x3 in each four bits of their index.

    This is a bent function: a block of equal entries, or any other row of a Hadamard matrix, is
    spread over all entries just as a single nonzero entry is.
    """
    x = np.arange(block_of(size))
    odd = np.zeros(len(x), np.int64)
    while x.any():
        odd ^= (x & x >> 1) & 1 ^ (x >> 2 & x >> 3) & 1
        x >>= _MOST_MIXED
    signs: Float32Array = (1 - 2 * odd).astype(np.float32)
    return signs


def _turned(rows: Float32Array, *, back: bool) -> Float32Array:
    size = rows.shape[1]
    largest = np.maximum.reduce(np.abs(rows), axis=1)  # [n]
    rounding = power_below(largest).astype(np.float64)[:, None] * ROUNDING
    exact: Float64Array = np.add(rows, rounding, dtype=np.float64)
    exact -= rounding
    mixed = _mixed(exact, _factors(size, back=back, dtype="float64"))
    turned = np.empty(rows.shape, np.float32)
    np.multiply(mixed, 1.0 / sqrt(block_of(size)), out=turned, casting="same_kind")
    return turned


def _mixed(rows: Any, factors: tuple[Any, ...]) -> Any:
    """Multiply every block of rows (n, d) by the Kronecker product of matrices.

    Every product uses the entries of one row, or one block, only, so the result of a row does not
    depend on the other rows, to the last bit.
    """
    count, size = rows.shape
    first, *others = factors
    inner = len(first)
    mixed = rows.reshape(count, size // inner, inner) @ first
    for factor in others:
        mixed = factor @ mixed.reshape(-1, len(factor), inner)
        inner *= len(factor)
    return mixed.reshape(rows.shape)


@lru_cache(maxsize=64)
def _factors(size: int, *, back: bool, dtype: str) -> tuple[NDArray[np.floating[Any]], ...]:
    """Matrices whose Kronecker product rotates a block; the first multiplies from the right.

    Their entries are 1 and -1.
    """
    power = block_of(size).bit_length() - 1
    parts = [_MOST_MIXED] * (power // _MOST_MIXED) + [power % _MOST_MIXED]
    turning = [_turning(part) for part in parts if part] or [_turning(0)]
    if back:
        turning = [matrix.T for matrix in turning]
    factors = (turning[0].T, *turning[1:])
    return tuple(np.ascontiguousarray(matrix, dtype) for matrix in factors)


def _turning(power: int) -> Float64Array:
    """Hadamard matrix of size 2^power whose columns have signs."""
    matrix = np.ones((1, 1))
    for _ in range(power):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    turning: Float64Array = matrix * signs_of(1 << power)
    return turning
