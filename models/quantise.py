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

Steps are bfloat16: eight bits of mantissa, the range of float32. The codes are made with the
step as it travels, so its rounding costs nothing.

*Rotation*: models have channels whose entries are many times the others' and would set the step
of the whole row. A row is multiplied by random signs and a Hadamard matrix first, both orthogonal,
which makes its entries nearly Gaussian; the receiver turns it back, and the error's norm is
unchanged.

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
#: Longest block that is rotated as a whole; longer ones cost more and gain nothing.
_MOST_ROTATED = 4096


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
    steps = _steps(rows, width)
    half = np.float32(1 << (width - 1))
    levels = rows * (np.float32(1.0) / step_values(steps))[:, None]  # [n, d]
    np.floor(levels, out=levels)
    levels += half
    np.clip(levels, 0.0, 2.0 * half - 1.0, out=levels)
    return levels.astype(np.uint8), steps


def reconstruct(codes: CodeArray, steps: StepArray, width: int) -> Float32Array:
    """Return the rows (n, d) that codes (n, d) and steps (n,) stand for."""
    rows = codes.astype(np.float32)
    rows -= np.float32(((1 << width) - 1) / 2)
    rows *= step_values(steps)[:, None]
    result: Float32Array = rows
    return result


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


def _steps(rows: Float32Array, width: int) -> StepArray:
    largest = np.abs(rows).max(axis=1)  # [n]; NaN where one is
    if not np.isfinite(largest).all():
        raise NotFinite(int(np.flatnonzero(~np.isfinite(largest))[0]), width)
    step = largest / np.float32(1 << (width - 1))
    if width in GAUSSIAN_STEP:
        scaled = rows / np.maximum(largest, _LEAST_STEP)[:, None]  # squares cannot overflow
        size = np.float32(rows.shape[1])
        mean_square = np.einsum("nd,nd->n", scaled, scaled) / size  # of 1 for the largest entry
        better = 12.0 * GAUSSIAN_ERROR[width] * mean_square < 0.25 ** (width - 1)
        gaussian = np.float32(GAUSSIAN_STEP[width]) * largest * np.sqrt(mean_square)
        step = np.where(better, gaussian, step)
    return _bfloat16_above(np.maximum(step, _LEAST_STEP))


def _bfloat16_above(values: Float32Array) -> StepArray:
    """Bits of the least bfloat16 not below each value: with it no largest entry is clipped."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    above: StepArray = ((bits + np.uint32(0xFFFF)) >> np.uint32(16)).astype(np.uint16)
    return above


def rotate(rows: Float32Array, rotation: Rotation) -> Float32Array:
    """Spread every entry of a row over its block: random signs, then a Hadamard matrix.

    A block is the largest power of two that divides the row's length. The result's order is that
    of `rotate_back`, and of no other meaning.

    Parameters
    ----------
    rows : (n, d) float32
    rotation : "none" or "hadamard"
    """
    if not _turns(rotation):
        return rows
    signs, first, second = _factors(rows.shape[1])
    turned = (rows * signs).reshape(-1, len(second)) @ second  # [n * blocks * p, q]
    crossed = turned.reshape(-1, len(first), len(second)).swapaxes(1, 2)  # [n * blocks, q, p]
    mixed: Float32Array = crossed.reshape(-1, len(first)) @ first
    return mixed.reshape(rows.shape)


def rotate_back(rows: Float32Array, rotation: Rotation) -> Float32Array:
    """Undo `rotate`."""
    if not _turns(rotation):
        return rows
    signs, first, second = _factors(rows.shape[1])
    turned = rows.reshape(-1, len(first)) @ first  # [n * blocks * q, p]
    crossed = turned.reshape(-1, len(second), len(first)).swapaxes(1, 2)  # [n * blocks, p, q]
    mixed: Float32Array = crossed.reshape(-1, len(second)) @ second
    return mixed.reshape(rows.shape) * signs


def _turns(rotation: Rotation) -> bool:
    if rotation not in ROTATIONS:
        raise ValueError(f"rotation must be one of {', '.join(ROTATIONS)}, got {rotation!r}")
    return rotation != "none"


@lru_cache(maxsize=16)
def _factors(size: int) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Signs (d,), and two Hadamard matrices whose Kronecker product is a block's."""
    block = min(size & -size, _MOST_ROTATED)
    power = block.bit_length() - 1
    parts = (_hadamard(power // 2), _hadamard(power - power // 2))
    arrays = (_signs(size), *parts)
    for array in arrays:
        array.flags.writeable = False
    return arrays


def _hadamard(power: int) -> Float32Array:
    """Orthonormal Hadamard matrix of size 2^power; symmetric, so its own inverse."""
    matrix = np.ones((1, 1))
    for _ in range(power):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    scaled: Float32Array = (matrix / np.sqrt(len(matrix))).astype(np.float32)
    return scaled


def _signs(size: int) -> Float32Array:
    """Signs that no row of a Hadamard matrix resembles, the same on every machine (splitmix64)."""
    state = np.arange(1, size + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    state ^= state >> np.uint64(31)
    signs: Float32Array = np.where(state >> np.uint64(63), -1.0, 1.0).astype(np.float32)
    return signs
