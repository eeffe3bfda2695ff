"""Lays out the vectors and pairs that a plan sends: by helper, then by width, then by token."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from siftmoe.coordinator.dispatch.rows import RANK, RANKS
from siftmoe.coordinator.dispatch.weights import relative_weights
from siftmoe.coordinator.selection.problem import LOCAL, NOBODY
from siftmoe.models.vectors.records import ROW_WIDTHS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.selection.problem import SelectionPlan

    Float32Array = NDArray[np.float32]
    IntArray = NDArray[np.int64]


class Layout(NamedTuple):
    """All shares, one after the other.

    ``tokens`` [v], one per vector that is sent; ``ranks`` [v] of their widths and ``replies`` [v]
    of those of their answers; ``pairs`` [m, 2] with rows counted within their share; ``weights``
    [m], and ``scale`` [v]; for each helper its range of vectors and its range of pairs.
    """

    tokens: IntArray
    ranks: IntArray
    replies: IntArray
    pairs: NDArray[np.int32]
    weights: Float32Array
    scale: Float32Array
    runs: list[tuple[int, tuple[int, int], tuple[int, int]]]


def lay_out(plan: SelectionPlan, *, layer: int, reply_width: int) -> Layout:
    """Lay out a plan's vectors and pairs by helper; parameters and errors as `group`."""
    num_tokens, slots = plan.helper.shape
    used = np.flatnonzero(plan.helper != NOBODY)  # [s] of [T * K]
    helper, expert = plan.helper.reshape(-1)[used], plan.expert.reshape(-1)[used]
    num_experts = int(expert.max(initial=0)) + 1
    rank = _ranks(plan.width.reshape(-1)[used], helper, layer, "sends")
    answers = np.full(len(used), reply_width)
    if plan.reply_width is not None:
        answers = plan.reply_width.reshape(-1)[used]
    both = rank * RANKS + _ranks(answers, helper, layer, "wants")
    # A vector is one (helper, widths, token), a pair one (vector, expert); both sort as numbers.
    vector = ((helper - LOCAL) * RANKS**2 + both) * num_tokens + used // slots
    pair = vector * num_experts + expert  # [s]
    order = pair.argsort(kind="stable")
    pair = pair[order]
    first_slot = _begins(pair).nonzero()[0]  # [m]
    weights = np.add.reduceat(plan.weight.reshape(-1)[used][order], first_slot)  # [m]
    pair = pair[first_slot]  # [m]
    vector = pair // num_experts  # [m]
    begins = _begins(vector)  # [m]
    place = begins.cumsum() - 1  # [m], where a pair's vector stands among all
    vector = vector[begins]  # [v]
    token = vector % num_tokens  # [v]
    helper, both = np.divmod(vector // num_tokens, RANKS**2)  # [v]
    _check_once(helper, both, token, layer)
    rank, reply = np.divmod(both, RANKS)  # [v]
    begins_helper = _begins(helper)  # [v]
    first_vector = begins_helper.nonzero()[0]  # [h]
    start = first_vector[begins_helper.cumsum() - 1]  # [v], where its share begins
    table = np.empty((len(pair), 2), dtype=np.int32)
    table[:, 0] = place - start[place]
    table[:, 1] = pair % num_experts
    helpers = (helper[first_vector] + LOCAL).tolist()
    vector_ends = [*first_vector.tolist(), len(vector)]
    first_pair = begins.nonzero()[0]  # [v]
    pair_ends = [*first_pair[first_vector].tolist(), len(pair)]
    runs = list(zip(helpers, pairwise(vector_ends), pairwise(pair_ends), strict=True))
    replies = np.array((0, *ROW_WIDTHS))[reply]  # [v]
    sent, scale = relative_weights(weights, first_pair, replies)
    return Layout(token, rank, replies, table, sent, scale, runs)


def _ranks(width: IntArray, helper: IntArray, layer: int, what: str) -> IntArray:
    """Ranks of the widths of slots, (s,); 0 on the user's device."""
    rank = np.where(helper == LOCAL, 0, RANK.take(width, mode="clip"))
    wrong = (rank < 0) | ((rank == 0) & (helper != LOCAL))
    if wrong.any():
        slot = int(wrong.argmax())
        where = "to" if what == "sends" else "from"
        raise ValueError(
            f"layer {layer}: the plan {what} a vector {where} helper {helper[slot]} at "
            f"{width[slot]} bits, it must be one of {', '.join(map(str, ROW_WIDTHS))}"
        )
    return rank


def _check_once(helper: IntArray, widths: IntArray, token: IntArray, layer: int) -> None:
    """Raise ValueError if a token goes to a helper at two widths, or comes back at two."""
    if not len(widths) or widths.min() == widths.max():
        return
    vectors = np.sort(helper * (token.max() + 1) + token)
    if (vectors[1:] == vectors[:-1]).any():
        twice = vectors[1:][vectors[1:] == vectors[:-1]][0] % (token.max() + 1)
        raise ValueError(
            f"layer {layer}: the plan sends token {twice} to one helper at two widths; it goes "
            f"there once, and comes back once"
        )


def runs_of_widths(widths: IntArray) -> tuple[tuple[int, int], ...]:
    """Write widths, (n,), in runs of (width, rows)."""
    begins = np.flatnonzero(_begins(widths))
    counts = np.diff(np.append(begins, len(widths)))
    return tuple(zip(widths[begins].tolist(), counts.tolist(), strict=True))


def _begins(values: IntArray) -> NDArray[np.bool_]:
    """Mark where the runs of a sorted array begin."""
    begins = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=begins[1:])
    return begins
