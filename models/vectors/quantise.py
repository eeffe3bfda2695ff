r"""Quantises rows of numbers to a few bits per entry, and reconstructs them. Needs no torch.

A row x of d entries becomes d codes of b bits and one step :math:`\Delta`, which travels with them:

.. math:: k = \mathrm{clip}\big(\lfloor x / \Delta \rfloor + 2^{b-1},\ 0,\ 2^b - 1\big), \qquad
          \hat x = \Delta\,\big(k - (2^b - 1)/2\big)

This is a uniform mid-rise quantiser: all :math:`2^b` levels are used, and the receiver does not
need to know how the step was chosen. The sender chooses it by

- the largest magnitude, :math:`\Delta = \max|x| / 2^{b-1}`: nothing is clipped and no entry has an
  error above :math:`\Delta / 2`;
- or, below 5 bits, the root mean square, :math:`\Delta = \kappa_b \sqrt{\overline{x^2}}`, with the
  :math:`\kappa_b` that are optimal for Gaussian entries: a few large entries are clipped, and all
  others have a finer step. It is used where its mean squared error on Gaussian entries,
  :math:`D_b \overline{x^2}`, is less than :math:`\Delta^2 / 12`, which holds for long rows.

Steps are bfloat16: eight bits of mantissa and the range of float32. The value of the formulas is
rounded up, so the largest entry stays within the last level. Codes are computed with the rounded
step.

Rows are rotated first, so that no single entry determines the step
(`siftmoe.models.vectors.rotation`).

The optimal steps are those of J. Max, "Quantizing for minimum distortion", IRE Trans. Inf. Theory 6
(1960). docs/explanation/theory.md, section 8.
"""

from __future__ import annotations

import sys
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siftmoe.models.vectors.rotation import (
    ROTATIONS,
    Rotation,
    power_below,
    rotate,
    rotate_back,
    turn_back_levels,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    #: Width and number of consecutive rows.
    Runs = Sequence[tuple[int, int]]

    Float32Array = NDArray[np.float32]
    CodeArray = NDArray[np.uint8]
    StepArray = NDArray[np.uint16]

__all__ = [
    "GAUSSIAN_ERROR",
    "GAUSSIAN_STEP",
    "ROTATIONS",
    "STEP_BYTES",
    "WIDTHS",
    "NotFinite",
    "Rotation",
    "check_width",
    "quantise",
    "quantise_runs",
    "reconstruct",
    "reconstruct_runs",
    "rotate",
    "rotate_back",
    "round_trip",
    "step_values",
    "turn_back",
]

#: Bits per entry of quantised rows.
WIDTHS: Final = (2, 3, 4, 5, 6, 8)
#: Bytes of a row's step.
STEP_BYTES: Final = 2

#: Optimal step of a uniform quantiser per standard deviation of Gaussian entries (Max, 1960).
GAUSSIAN_STEP: Final = {2: 0.9957, 3: 0.5860, 4: 0.3352}
#: Mean squared error of these quantisers per variance.
GAUSSIAN_ERROR: Final = {2: 0.1188, 3: 0.03744, 4: 0.01154}
#: Step of a row of zeros, and the smallest step: its levels are practically zero.
LEAST_STEP: Final = np.float32(2.0**-100)
#: Added to a step's bits before the lower half is cut off.
STEP_ABOVE: Final = np.uint32(0x10000 + 8)
#: Rounds entries before they are squared: multiplied by the power of two below a row's largest
#: magnitude, it is added and subtracted again. 1.5 * 2^52 times the rounding unit.
SQUARES_ROUNDING: Final = 1.5 * 2.0**36
#: Index of the upper half of a float32, which is the bfloat16.
_UPPER = 1 if sys.byteorder == "little" else 0
#: By width: half the number of levels, and the middle between the two inner ones.
_HALF = np.array([2.0 ** (b - 1) for b in range(9)], np.float32)
_MIDDLE = _HALF - np.float32(0.5)
#: By width, (9,) float64: the square of the optimal step, 0 where none is used; and a factor. A
#: Gaussian step below this factor times the row's largest magnitude has the smaller error,
#: :math:`D_b \overline{x^2} < (\max|x| / 2^{b-1})^2 / 12`.
SQUARED_STEP: Final = np.array([GAUSSIAN_STEP.get(b, 0.0) ** 2 for b in range(9)])
BETTER: Final = np.array(
    [
        GAUSSIAN_STEP[b] / (12.0 * GAUSSIAN_ERROR[b]) ** 0.5 / 2.0 ** (b - 1)
        if b in GAUSSIAN_STEP
        else 0.0
        for b in range(9)
    ]
)


class NotFinite(ValueError):
    """A row has a number that is not finite, so it has no step; ``row`` is its index."""

    def __init__(self, row: int, width: int) -> None:
        super().__init__(
            f"row {row} has a number that is not finite; it cannot be sent in {width} bits, send "
            f"it at 16 or 32"
        )
        self.row = row
        self.width = width


def check_width(width: int) -> None:
    """Raise ValueError for a width that is not one of `WIDTHS`."""
    if width not in WIDTHS:
        raise ValueError(f"width must be one of {', '.join(map(str, WIDTHS))} bits, got {width!r}")


def quantise(rows: Float32Array, width: int) -> tuple[CodeArray, StepArray]:
    """Quantise rows, with one step per row.

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
        Bits of bfloat16 numbers, positive and finite.

    Raises
    ------
    NotFinite
        If a number is not finite.
    ValueError
        If there is no such width.
    """
    return quantise_runs(rows, ((width, len(rows)),))


def quantise_runs(rows: Float32Array, runs: Runs) -> tuple[CodeArray, StepArray]:
    """Quantise rows of several widths at once; the result of a row does not depend on the others.

    Parameters
    ----------
    rows : (n, d) float32
    runs : sequence of (width, count)
        Widths of the rows in their order.

    Returns
    -------
    codes : (n, d) uint8
    steps : (n,) uint16

    Raises
    ------
    NotFinite, ValueError
        As `quantise`.
    """
    for width, _ in runs:
        check_width(width)
    values = _step_values(rows, runs)
    levels = rows * (np.float32(1.0) / values)[:, None]  # [n, d]
    levels += _column(_HALF, runs)
    begin = 0
    for width, count in runs:
        if width in GAUSSIAN_STEP:
            part = levels[begin : begin + count]
            part.clip(0.0, 2.0**width - 1.0, out=part)
        begin += count
    return levels.astype(np.uint8), values.view(np.uint16)[_UPPER::2]  # rounds down


def reconstruct(codes: CodeArray, steps: StepArray, width: int) -> Float32Array:
    """Return the rows (n, d) that codes (n, d) and steps (n,) represent."""
    return reconstruct_runs(codes, steps, ((width, len(codes)),))


def reconstruct_runs(codes: CodeArray, steps: StepArray, runs: Runs) -> Float32Array:
    """Return the rows (n, d) that codes and steps of several widths represent."""
    return turn_back(codes, steps, runs, rotation="none")


def turn_back(
    codes: CodeArray, steps: StepArray, runs: Runs, *, rotation: Rotation
) -> Float32Array:
    """Return the rows (n, d) of codes and steps, with the rotation undone."""
    levels: Float32Array = np.subtract(codes, _column(_MIDDLE, runs), dtype=np.float32)
    return turn_back_levels(levels, step_values(steps), rotation)


def round_trip(rows: Float32Array, width: int, *, rotation: Rotation) -> Float32Array:
    """Return rows (n, d) as received at a width; 16 is float16, 32 exact.

    Raises
    ------
    ValueError
        If a number is too large for the width, or there is no such width or rotation.
    """
    if width == 32:
        return rows
    if width == 16:
        return rows.astype(np.float16).astype(np.float32)
    codes, steps = quantise(rotate(rows, rotation), width)
    return turn_back(codes, steps, ((width, len(rows)),), rotation=rotation)


def step_values(steps: StepArray) -> Float32Array:
    """Values of steps given as the bits of bfloat16, (n,)."""
    values = np.zeros(len(steps), np.float32)
    values.view(np.uint16)[_UPPER::2] = steps
    return values


def _step_values(rows: Float32Array, runs: Runs) -> Float32Array:
    """Step of each row, (n,), with a bfloat16 value."""
    largest: Float32Array = np.maximum.reduce(np.abs(rows), axis=1)  # [n]; NaN if an entry is
    most = np.maximum.reduce(largest, initial=0.0)
    if not most < np.inf:
        row = int((largest < np.inf).argmin())
        ends = accumulate(count for _, count in runs)
        raise NotFinite(row, next(w for (w, _), end in zip(runs, ends, strict=True) if row < end))
    step: Float32Array = largest / _of_rows(_HALF, runs)
    if any(width in GAUSSIAN_STEP for width, _ in runs):
        size = rows.shape[1]
        finer = np.sqrt(_squares(rows, largest) * (_of_rows(SQUARED_STEP, runs) / size))
        better = largest.astype(np.float64) * _of_rows(BETTER, runs) > finer
        step = np.where(better, finer, step).astype(np.float32)
    np.maximum(step, LEAST_STEP, out=step)
    # Rounded up to bfloat16 by more than the rounding error of the following division, so that the
    # largest entry is neither clipped nor rounded up to the end of the last level.
    bits = step.view(np.uint32)
    bits += STEP_ABOVE
    bits &= np.uint32(0xFFFF0000)
    return step


def _squares(rows: Float32Array, largest: Float32Array) -> NDArray[np.float64]:
    """Sum of the squares of each row, (n,), the same to the last bit in any order.

    Entries are first rounded to a multiple of 2^-16 P (P as in `siftmoe.models.vectors.rotation`):
    the squares of up to 2^19 entries then add up exactly.
    """
    rounding = power_below(largest).astype(np.float64)[:, None] * SQUARES_ROUNDING
    exact: NDArray[np.float64] = np.add(rows, rounding, dtype=np.float64)
    exact -= rounding
    squares: NDArray[np.float64] = (exact[:, None, :] @ exact[:, :, None])[:, 0, 0]
    return squares


def _column(table: NDArray[np.floating[Any]], runs: Runs) -> Any:
    """Table values for the widths of rows: (n, 1), or a number for a single width."""
    found = _of_rows(table, runs)
    return found if len(runs) == 1 else found[:, None]


def _of_rows(table: NDArray[np.floating[Any]], runs: Runs) -> Any:
    """Table values for the widths of rows: (n,), or a number for a single width."""
    if len(runs) == 1:
        return table[runs[0][0]]
    widths, counts = zip(*runs, strict=True)
    return np.repeat(table[list(widths)], counts)
