r"""Rows of numbers to a few bits an entry and back. Needs no torch.

A row x of d entries becomes d codes of b bits and one step :math:`\Delta`, which travels with it:

.. math:: k = \mathrm{clip}\big(\lfloor x / \Delta \rfloor + 2^{b-1},\ 0,\ 2^b - 1\big), \qquad
          \hat x = \Delta\,\big(k - (2^b - 1)/2\big)

a uniform mid-rise quantiser: all :math:`2^b` levels are used, and a receiver needs to know nothing
of how the step was chosen. The sender chooses it by

- the largest magnitude, :math:`\Delta = \max|x| / 2^{b-1}`: nothing is clipped and no entry is off
  by more than :math:`\Delta / 2`;
- or, below 5 bits, the root mean square, :math:`\Delta = \kappa_b \sqrt{\overline{x^2}}`, with the
  :math:`\kappa_b` that are optimal for Gaussian entries: a few large entries are clipped so that
  all others are finer. It is taken where its mean squared error on Gaussian entries,
  :math:`D_b \overline{x^2}`, is less than :math:`\Delta^2 / 12`, as it is in long rows.

Steps are bfloat16, eight bits of mantissa and the range of float32, and the next one above what
the formulas give: so the largest entry stays within the last level. The codes are made with the
step as it travels.

*Rotation*: models have channels whose entries are many times the others' and would set the step
of the whole row. A row is multiplied by signs and a Hadamard matrix first, both orthogonal, which
makes its entries nearly Gaussian; the receiver turns it back, and the error's norm is unchanged.

The optimal steps are those of J. Max, "Quantizing for minimum distortion", IRE Trans. Inf. Theory 6
(1960). docs/theory.md, section 8.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]
    CodeArray = NDArray[np.uint8]
    StepArray = NDArray[np.uint16]

Rotation = Literal["none", "hadamard"]

#: Bits of an entry that a quantised row may have.
WIDTHS: Final = (2, 3, 4, 5, 6, 8)
ROTATIONS: Final[tuple[Rotation, ...]] = ("none", "hadamard")
#: Bytes of a row's step.
STEP_BYTES: Final = 2

#: Optimal step of a uniform quantiser over the standard deviation, Gaussian entries (Max, 1960).
GAUSSIAN_STEP: Final = {2: 0.9957, 3: 0.5860, 4: 0.3352}
#: Mean squared error of these quantisers over the variance.
GAUSSIAN_ERROR: Final = {2: 0.1188, 3: 0.03744, 4: 0.01154}
#: Step of a row of zeros, and the least there is: their image is as good as zero.
_LEAST_STEP = np.float32(2.0**-100)
#: Rows of smaller entries are quantised by the largest: their squares vanish in float32.
_LEAST_SQUARED = np.float32(1e-15)
#: A row's largest magnitude times this must be above its Gaussian step for that to have the smaller
#: error: :math:`D_b \overline{x^2} < (\max|x| / 2^{b-1})^2 / 12`.
_BETTER = {
    b: GAUSSIAN_STEP[b] / (12.0 * error * 4.0 ** (b - 1)) ** 0.5
    for b, error in GAUSSIAN_ERROR.items()
}
#: Longest block that is rotated as a whole; longer ones cost more and gain nothing.
_MOST_ROTATED = 4096
#: Powers of two that one product takes: matrices of 16 have the least cost in all.
_MOST_MIXED = 4


class NotFinite(ValueError):
    """A row has a number that is not finite and so has no step; ``row`` is its index."""

    def __init__(self, row: int, width: int) -> None:
        super().__init__(
            f"row {row} has a number that is not finite; it cannot be sent in {width} bits, send "
            f"it at 16 or 32"
        )
        self.row = row


def check_width(width: int) -> None:
    """Raise ValueError for a width that rows are not quantised to."""
    if width not in WIDTHS:
        raise ValueError(f"width must be one of {', '.join(map(str, WIDTHS))} bits, got {width!r}")


def quantise(rows: Float32Array, width: int) -> tuple[CodeArray, StepArray]:
    """Quantise rows with a step each.

    Parameters
    ----------
    rows : (n, d) float32
    width : int, bit
        One of `WIDTHS`.

    Returns
    -------
    codes : (n, d) uint8
        In 0 .. 2^width - 1.
    steps : (n,) uint16
        Bits of a bfloat16 each; positive and finite.

    Raises
    ------
    NotFinite
        If a number is not finite.
    ValueError
        If there is no such width.
    """
    check_width(width)
    values = _step_values(rows, width)
    half = np.float32(1 << (width - 1))
    levels = rows * (np.float32(1.0) / values)[:, None]  # [n, d]
    levels += half
    if width in GAUSSIAN_STEP:
        levels.clip(0.0, 2.0 * half - 1.0, out=levels)
    steps = (values.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    return levels.astype(np.uint8), steps  # rounds down


def reconstruct(codes: CodeArray, steps: StepArray, width: int) -> Float32Array:
    """Return the rows (n, d) that codes (n, d) and steps (n,) stand for."""
    rows: Float32Array = np.subtract(codes, ((1 << width) - 1) / 2, dtype=np.float32)
    rows *= step_values(steps)[:, None]
    return rows


def round_trip(rows: Float32Array, width: int, *, rotation: Rotation) -> Float32Array:
    """Return rows (n, d) as they arrive after travelling at a width; 16 is float16, 32 exact.

    Raises
    ------
    ValueError
        If a number does not fit, or there is no such width or rotation.
    """
    if width == 32:
        return rows
    if width == 16:
        return rows.astype(np.float16).astype(np.float32)
    turned = rotate(rows, rotation)
    return rotate_back(reconstruct(*quantise(turned, width), width), rotation)


def step_values(steps: StepArray) -> Float32Array:
    """Value of steps given as the bits of bfloat16, (n,)."""
    values: Float32Array = (steps.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return values


def _step_values(rows: Float32Array, width: int) -> Float32Array:
    """Step of each row, (n,), all of them bfloat16."""
    largest: Float32Array = np.maximum.reduce(np.abs(rows), axis=1)  # [n]; NaN where one is
    if len(rows) and not np.maximum.reduce(largest) < np.inf:
        raise NotFinite(int((largest < np.inf).argmin()), width)
    step: Float32Array = largest * np.float32(0.5 ** (width - 1))
    if width in GAUSSIAN_STEP:
        with np.errstate(over="ignore"):  # infinite, and so not better
            squares = (rows[:, None, :] @ rows[:, :, None])[:, 0, 0]  # [n]
        gaussian = np.sqrt(squares * np.float32(GAUSSIAN_STEP[width] ** 2 / rows.shape[1]))
        better = largest * np.float32(_BETTER[width]) > np.maximum(gaussian, _LEAST_SQUARED)
        step = np.where(better, gaussian, step)
    np.maximum(step, _LEAST_STEP, out=step)
    # The next bfloat16 above: with it no largest entry is clipped, nor reaches the end.
    bits = step.view(np.uint32)
    bits += np.uint32(0x10000)
    bits &= np.uint32(0xFFFF0000)
    return step


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
