r"""Plausibility of helpers' outputs: finite numbers, usual norms, agreement of two computations.

.. math:: r = \frac{\|\hat y\|}{\sum_i |w_i|\, \mathbb E\|y_i\|}

A helper that scales its outputs, or returns zeros, has an unusual ratio r in every layer. A true
output may have one too: single tokens, such as the first of a text, excite some experts a thousand
times more than the mean. So one ratio proves nothing; the score of a helper rises by one for every
layer in which the median over its rows is unusual, and falls by one, not below 0, for every other.
Our own rule (docs/explanation/faults.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siftmoe.models.vectors.packing import FLOAT_WIDTHS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.dispatch.grouping import Share

    FloatArray = NDArray[np.float64]
    Rows = NDArray[np.floating[Any]]

#: Norms beyond this factor of the profile's, either way, are unusual.
UNUSUAL: Final = 30.0
#: Score at which a helper is not believed any more.
MOST: Final = 8
#: Two computations of a row agree within this share of its norm; providers differ by up to 2%.
AGREEMENT: Final = 0.1
#: The same for answers below 8 bits an entry, whose rounding alone is up to 45%.
ROUGH_AGREEMENT: Final = 0.5


def squares(rows: Rows) -> NDArray[np.float32]:
    """Squared norm of every row, (n,); NaN or infinite if a number is, or nearly so."""
    square: NDArray[np.float32] = np.einsum("ij,ij->i", rows, rows, dtype=np.float32)
    return square


def norm_ratio(share: Share, square: NDArray[np.float32], usual: FloatArray) -> FloatArray:
    """Norm of every row over its usual one, (n,); NaN where that is not known.

    Parameters
    ----------
    share : Share
    square : (n,) float32
        Squared norms of its output.
    usual : (E,) float64
        Mean norm of each expert's output.
    """
    weights = share.weights * share.scale[share.pairs[:, 0]]
    weighted = np.abs(weights) * usual[share.pairs[:, 1]]
    expected = np.bincount(share.pairs[:, 0], weighted, minlength=len(square))
    return np.sqrt(square) / np.where(expected > 0.0, expected, np.nan)


def is_unusual(ratio: float) -> bool:
    """Whether a ratio of norms is far from that of a true output; not if it is NaN."""
    return bool(ratio > UNUSUAL or ratio < 1.0 / UNUSUAL)


def agree(one: Rows, other: Rows, *, reply_width: int) -> bool:
    """Whether two computations of a row are the same but for rounding."""
    first, second = one.astype(np.float64), other.astype(np.float64)
    scale = max(float(np.linalg.norm(first)), float(np.linalg.norm(second)))
    exact = reply_width in FLOAT_WIDTHS or reply_width >= 8
    share = AGREEMENT if exact else ROUGH_AGREEMENT
    return float(np.linalg.norm(first - second)) <= share * scale


class Scores:
    """How often each helper's norms were unusual of late."""

    def __init__(self) -> None:
        self._score: dict[int, int] = {}

    def add(self, helper: int, ratio: FloatArray) -> bool:
        """Add a layer's ratios; True if the helper is not to be believed any more."""
        known = ratio[~np.isnan(ratio)]
        if not known.size:
            return False
        score = self._score.get(helper, 0) + (1 if is_unusual(float(np.median(known))) else -1)
        self._score[helper] = max(score, 0)
        return score >= MOST
