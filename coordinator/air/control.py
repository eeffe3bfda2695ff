r"""Control bits of a plan: headers, which experts, and weights beside the rows.

As `siftmoe.agent.wire.short` writes them, whole bytes of each message: over the network and on the
air they are the same. A message to helper n with rows t, each with :math:`c_t` experts of the
:math:`R_n` that it hosts and an answer of :math:`v_t` bits an entry, has

.. math:: h + \sum_t c_t \lceil\log_2 R_n\rceil + (c_t - 1) \max(8, v_t)

bits beside its vectors, and the number of each row's experts where it differs; h is a header of 10
bytes and 2 more for every further pair of widths. Own choice (docs/explanation/theory.md, section
0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.agent.wire.control import (
    APPLY_BYTES,
    HEADER_BITS,
    RESULT_BYTES,
    bits_for,
    row_control_bits,
    run_bytes,
)
from siftmoe.coordinator.links.states import Direction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.selection.problem import SelectionPlan

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

_BYTE = 8
_MOST_WIDTH = 64


def header_bits(direction: Direction) -> int:
    """Bits of the header of a message whose rows have one width each way."""
    return HEADER_BITS[0] if direction is Direction.UP else HEADER_BITS[1]


def control_bits(hosts: BoolArray, *, pairs: int = 1, reply_width: int = 8) -> IntArray:
    """Bits beside the vector of one token on its way to each helper, (N,).

    Parameters
    ----------
    hosts : (N, E) bool
        Which helper holds which expert of the layer.
    pairs : int
        Experts that the token uses there.
    reply_width : int, bit
        Of an entry of the answer.
    """
    residents = hosts.sum(axis=1).tolist()
    return np.array(
        [row_control_bits(residents=r, pairs=pairs, reply_width=reply_width) for r in residents],
        dtype=np.int64,
    )


def plan_control_bits(
    plan: SelectionPlan, hosts: BoolArray, *, reply_width: int
) -> tuple[FloatArray, FloatArray]:
    """Control bits of the messages to every helper and back, (N,) each.

    Parameters
    ----------
    plan : SelectionPlan
    hosts : (N, E) bool
        Which helper holds which expert of the layer.
    reply_width : int, bit
        Of the answers, where the plan does not choose it.
    """
    helpers, experts = hosts.shape
    up, down = np.zeros(helpers), np.zeros(helpers)
    slots = np.flatnonzero(plan.helper >= 0)  # of [T * K]
    if not len(slots):
        return up, down
    helper, expert = plan.helper.reshape(-1)[slots], plan.expert.reshape(-1)[slots]
    replies = (
        np.full_like(plan.width, reply_width) if plan.reply_width is None else plan.reply_width
    )
    widths = plan.width.reshape(-1)[slots] * _MOST_WIDTH + replies.reshape(-1)[slots]
    token = slots // plan.helper.shape[1]
    row = helper * len(plan.helper) + token
    pairs, at = np.unique(row * experts + expert, return_index=True)
    rows, first, counts = np.unique(pairs // experts, return_index=True, return_counts=True)
    row_widths = widths[at][first]
    ends = np.searchsorted(rows // len(plan.helper), np.arange(helpers + 1))
    residents = hosts.sum(axis=1)
    for n in np.flatnonzero(np.diff(ends)).tolist():
        mine = slice(ends[n], ends[n + 1])
        up[n], down[n] = _message_bits(counts[mine], row_widths[mine], int(residents[n]))
    return up, down


def _message_bits(counts: IntArray, widths: IntArray, residents: int) -> tuple[int, int]:
    """Bits of the headers of a request and its answer, rows included."""
    runs, rows = np.unique(widths, return_counts=True)
    replies = runs % _MOST_WIDTH
    weights = np.maximum(_BYTE, widths % _MOST_WIDTH)
    most = int(counts.max())
    mixed = bits_for(most) * len(counts) if most != counts.min() else 0
    beside = mixed + int(counts.sum()) * bits_for(residents) + int(((counts - 1) * weights).sum())
    there = APPLY_BYTES + sum(run_bytes(int(count)) for count in rows) + -(-beside // _BYTE)
    begins = np.flatnonzero(np.append(True, replies[1:] != replies[:-1]))
    back = np.add.reduceat(rows, begins)
    answer = RESULT_BYTES + sum(run_bytes(int(count)) for count in back)
    return _BYTE * there, _BYTE * answer
