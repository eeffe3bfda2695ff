r"""The layered min-sum decoder in plain numpy: what `kernels.decode` computes, to the last bit.

A bit's total :math:`L_v` is a log-likelihood ratio, positive for 0, in sixteen-bit steps. Every
check c of a row takes its old message back from its bits, and sends a new one to each of them:

.. math:: q_{v} = L_v - r_{c v}, \qquad
          r_{c v} = \beta \prod_{u \ne v} \operatorname{sgn} q_u \min_{u \ne v} |q_u|, \qquad
          L_v = q_v + r_{c v}

with :math:`\beta` the weight of the row: min-sum overrates its messages (normalised min-sum, Chen
and Fossorier 2002; layers, Hocevar 2004). The rows follow each other, so that each uses what the
rows before it found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from siftmoe.radio.modem.coding.kernels import TOTAL_LIMIT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.modem.coding.graphs import LiftedGraph

    Int16Array = NDArray[np.int16]

_T = TypeVar("_T", bound=np.generic)

_MESSAGE_LIMIT = 127
#: Magnitudes are limited before they are scaled, so that the product fits 16 bits.
_SCALED_LIMIT = 2047


def violated(signs: NDArray[np.bool_], graph: LiftedGraph, *, rows: int) -> int:
    """Count the checks that a word violates.

    Parameters
    ----------
    signs : (columns, Z) bool
        Bits of the word.
    graph : LiftedGraph
    rows : int
        Rows of the base graph that are checked.
    """
    return sum(int(np.sum(_parity(signs, graph, row))) for row in range(rows))


def _parity(signs: NDArray[np.bool_], graph: LiftedGraph, row: int) -> NDArray[np.bool_]:
    parity: NDArray[np.bool_] = np.logical_xor.reduce(_rotated(signs, graph, row), axis=0)
    return parity


def _rotated(words: NDArray[_T], graph: LiftedGraph, row: int) -> NDArray[_T]:
    """Bits of a row's checks, (degree, Z)."""
    columns, shifts = graph.edges(row)
    return np.stack([np.roll(words[c], -s) for c, s in zip(columns, shifts, strict=True)])


def decode(
    totals: Int16Array, graph: LiftedGraph, *, weights: Int16Array, rows: int, iterations: int
) -> tuple[Int16Array, int]:
    """Decode a word.

    Parameters
    ----------
    totals : (columns, Z) int16
        Received log-likelihood ratios, positive for 0; 0 where nothing was received.
    graph : LiftedGraph
    weights : (rows,) int16
        Normalisation of every row in sixteenths.
    rows, iterations : int

    Returns
    -------
    totals : (columns, Z) int16
    iterations : int
        Used; negative if a check is still violated.
    """
    sums = totals.astype(np.int64)
    messages = [np.zeros((len(graph.edges(r)[0]), graph.size), np.int64) for r in range(rows)]
    for iteration in range(iterations):
        for row in range(rows):
            messages[row] = _layer(sums, messages[row], graph, row, int(weights[row]))
        if violated(sums < 0, graph, rows=rows) == 0:
            return sums.astype(np.int16), iteration + 1
    return sums.astype(np.int16), -iterations


def _layer(
    totals: NDArray[np.int64],
    message: NDArray[np.int64],
    graph: LiftedGraph,
    row: int,
    weight: int,
) -> NDArray[np.int64]:
    """Update the totals by one row; return its new messages."""
    values = _rotated(totals, graph, row) - message  # [degree, Z]
    magnitudes = np.abs(values)
    least, second = np.sort(magnitudes, axis=0)[:2]
    small, large = (
        np.minimum(np.minimum(m, _SCALED_LIMIT) * weight >> 4, _MESSAGE_LIMIT)
        for m in (least, second)
    )
    negative = np.logical_xor.reduce(values < 0, axis=0) ^ (values < 0)
    new = np.where(magnitudes == least, large, small) * np.where(negative, -1, 1)
    columns, shifts = graph.edges(row)
    for column, shift, total in zip(columns, shifts, values + new, strict=True):
        totals[column] = np.roll(np.clip(total, -TOTAL_LIMIT, TOTAL_LIMIT), shift)
    return np.asarray(new)
