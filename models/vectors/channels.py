r"""Quantises rows with a fixed step per channel from calibration rows. Needs no torch.

.. math:: \Delta_c = \max_t |x_{t,c}| / 2^{b-1}, \qquad
          k = \mathrm{clip}\big(\lfloor x_{t,c} / \Delta_c \rfloor + 2^{b-1},\ 0,\ 2^b - 1\big)

These steps are not transmitted. On both shipped checkpoints a step per row after a rotation
(`siftmoe.models.vectors.quantise`) has the smaller error at every width
(benchmarks/models/quantisers.py), so this quantiser is used for comparison only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.models.vectors.quantise import check_width

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]
    CodeArray = NDArray[np.uint8]

#: Step of a channel that is zero in all calibration rows.
_LEAST_STEP = np.float32(2.0**-100)


def channel_steps(rows: Float32Array, width: int) -> Float32Array:
    """Least step of every channel at which none of these rows is clipped.

    Parameters
    ----------
    rows : (n, d) float32
        Calibration rows.
    width : int, bit

    Returns
    -------
    (d,) float32

    Raises
    ------
    ValueError
        If there are no rows, a number is not finite, or there is no such width.
    """
    check_width(width)
    if not len(rows):
        raise ValueError("steps per channel need at least one calibration row, got none")
    largest: Float32Array = np.maximum.reduce(np.abs(rows), axis=0)  # [d]
    if not np.isfinite(largest).all():
        channel = int((~np.isfinite(largest)).argmax())
        raise ValueError(f"channel {channel} has a calibration number that is not finite")
    steps: Float32Array = np.maximum(largest / np.float32(1 << (width - 1)), _LEAST_STEP)
    return steps


def quantise_channels(rows: Float32Array, steps: Float32Array, width: int) -> CodeArray:
    """Quantise rows (n, d) with steps (d,) to codes (n, d); entries beyond the range are clipped.

    Raises
    ------
    ValueError
        If a number is not finite, the number of steps is not that of channels, or there is no such
        width.
    """
    check_width(width)
    if steps.shape != rows.shape[1:]:
        raise ValueError(f"rows have {rows.shape[1]} channels, steps have shape {steps.shape}")
    if not np.isfinite(rows).all():
        row = int(np.argwhere(~np.isfinite(rows))[0, 0])
        raise ValueError(f"row {row} has a number that is not finite")
    half = np.float32(1 << (width - 1))
    # Clipped before the shift: a number much larger than a small step must not overflow.
    with np.errstate(over="ignore"):
        levels = np.clip(rows / steps, -half, half - 1.0) + half
    codes: CodeArray = levels.astype(np.uint8)
    return codes


def reconstruct_channels(codes: CodeArray, steps: Float32Array, width: int) -> Float32Array:
    """Return the rows (n, d) that codes (n, d) represent."""
    check_width(width)
    rows: Float32Array = np.subtract(codes, ((1 << width) - 1) / 2, dtype=np.float32)
    rows *= steps
    return rows
