r"""Weights of a row's experts as they travel: relative to the largest, in a few bits.

A helper answers with one vector per row, a weighted sum, so a common factor can be applied at home:

.. math:: \sum_i w_i y_i = w_\ast \sum_i \frac{w_i}{w_\ast}\, y_i, \qquad
          |w_\ast| = \max_i |w_i|

With one expert the relative weight is 1 and nothing is sent, which is exact and free. Of several,
all but the largest are rounded to the bits of an entry of the answer, at least 8: an error of at
most 1/254 of the largest, below that of the answer's own entries. Own choice; `benchmarks` has the
measured harm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.agent.wire.control import rounded, weight_bits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]
    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


def relative_weights(
    weights: FloatArray, first: IntArray, replies: IntArray
) -> tuple[Float32Array, Float32Array]:
    """Split weights into what is sent and a factor for every row.

    Parameters
    ----------
    weights : (m,) float64
        Of pairs, row by row.
    first : (v,) int64
        First pair of every row.
    replies : (v,) int64, bit
        Width of the answer of every row; 0 on the user's device, which gets weights as they are.

    Returns
    -------
    sent : (m,) float32
        As they arrive; one of each row is 1.
    scale : (v,) float32
        The largest weight of every row; 1 on the user's device.
    """
    counts = np.diff(np.append(first, len(weights)))
    remote = replies > 0
    if (counts == 1).all() and remote.all():
        return np.ones(len(weights), np.float32), weights.astype(np.float32)
    size = np.abs(weights)
    row = np.repeat(np.arange(len(first)), counts)  # [m]
    is_largest = size == (np.maximum.reduceat(size, first) if len(first) else size)[row]
    places = np.where(is_largest, np.arange(len(weights)), len(weights))
    largest = np.minimum.reduceat(places, first) if len(first) else first
    scale = weights[largest]  # [v]
    divisor = np.where(scale == 0.0, 1.0, scale)
    relative = (weights / divisor[row]).astype(np.float32)
    relative[largest] = 1.0
    bits = np.array([weight_bits(width) for width in replies.tolist()])[row]
    sent = weights.astype(np.float32)
    for width in np.unique(bits[remote[row]]).tolist():
        mine = remote[row] & (bits == width)
        sent[mine] = rounded(relative[mine], width)
    return sent, np.where(remote, scale, 1.0).astype(np.float32)
