"""Splits a plan's work by helper and sums the results: pure functions over arrays.

A helper gets each token's vector once, however many of its experts the token uses there, and
answers with one vector per token: the weighted sum over its experts. Results are added up in the
order of the helpers' indices, so the sum does not depend on the order of the replies.

Weights travel relative to the row's largest, which is applied here to what comes back
(`siftmoe.coordinator.dispatch.weights`). The plan states the width of every vector's entries, both
ways (`siftmoe.coordinator.dispatch.rows`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from siftmoe.agent.wire.protocol import Apply
from siftmoe.coordinator.dispatch.rows import RANK, RANKS, RowsOut
from siftmoe.coordinator.dispatch.weights import relative_weights
from siftmoe.coordinator.selection.problem import LOCAL, NOBODY
from siftmoe.models.vectors.packing import FLOAT_WIDTHS
from siftmoe.models.vectors.records import ROW_WIDTHS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from siftmoe.agent.wire.protocol import Vectors
    from siftmoe.coordinator.selection.problem import SelectionPlan
    from siftmoe.models.vectors.quantise import Rotation

    Float32Array = NDArray[np.float32]
    IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Share:
    """One helper's part of a batch.

    Parameters
    ----------
    helper : int
        Its index, or ``LOCAL``.
    tokens : (n,) int64
        Each once, those of one width and one width of the answer together and ascending; row i of
        the other arrays is token ``tokens[i]`` of the batch.
    hidden : (n, d) float32 or float16, or Packed
        As sent; an array where all rows have 16 or all have 32 bits.
    pairs : (m, 2) int32
        (row, expert), each pair once, ascending.
    weights : (m,) float32
        As sent: relative to the row's largest, rounded to their bits.
    scale : (n,) float32
        That largest weight, a factor on the row's result; 1 for local experts.
    reply_runs : tuple of (width, rows)
        Widths of the answers in the order of the rows.
    """

    helper: int
    tokens: IntArray
    hidden: Vectors
    pairs: NDArray[np.int32]
    weights: Float32Array
    scale: Float32Array
    reply_runs: tuple[tuple[int, int], ...]

    @property
    def payload_bits(self) -> int:
        """Bits of the vectors as sent, scales and padding included; 0 if none is sent."""
        return 0 if self.helper == LOCAL else 8 * self.hidden.nbytes

    def scaled(self, rows: NDArray[np.floating[Any]]) -> Float32Array:
        """Weighted sums of the rows, (n, d), from what came back."""
        single = rows.astype(np.float32, copy=False)
        return single if self.helper == LOCAL else single * self.scale[:, None]

    def request(
        self,
        *,
        request_id: int,
        layer: int,
        rotation: Rotation = "none",
        deadline_s: float | None = None,
        residents: tuple[int, ...] | None = None,
    ) -> Apply:
        """Request for this share.

        Parameters
        ----------
        request_id, layer : int
        rotation : "none" or "hadamard"
            Of quantised answers.
        deadline_s : float or None, s
        residents : tuple of int, or None
            Experts of the layer that the helper hosts, if it takes short headers.
        """
        apply = Apply(
            id=request_id,
            layer=layer,
            hidden=self.hidden,
            pairs=self.pairs,
            weights=self.weights,
            deadline_s=deadline_s,
            residents=residents,
        )
        widths = {width for width, _ in self.reply_runs}
        if widths == {apply.answer_width}:  # older agents know only the default
            return apply
        turned = "none" if widths <= {*FLOAT_WIDTHS} else rotation
        if len(self.reply_runs) == 1:
            return replace(apply, reply_width=widths.pop(), reply_rotation=turned)
        return replace(apply, reply_runs=self.reply_runs, reply_rotation=turned)


def group(
    plan: SelectionPlan,
    hidden: Float32Array,
    *,
    layer: int,
    rotation: Rotation = "hadamard",
    reply_width: int = 32,
) -> list[Share]:
    """Split a layer's work by helper.

    Slots of a token that the same expert of the same helper serves become one pair with the sum of
    their weights; skipped slots add nothing.

    Parameters
    ----------
    plan : SelectionPlan
    hidden : (T, d) float32
        Local experts get their rows as they are.
    layer : int
        For messages.
    rotation : "none" or "hadamard"
        Of quantised rows.
    reply_width : int, bit
        Of an entry of every answer, where the plan does not choose it.

    Returns
    -------
    list of Share
        By ascending helper; ``LOCAL`` comes first.

    Raises
    ------
    ValueError
        If the batch is not the plan's, a width does not exist, a token would go to one helper, or
        come back from it, at two widths, or a number to be sent as float16 is out of its range or
        not finite.
    """
    if len(hidden) != len(plan.helper):
        raise ValueError(f"the plan is for {len(plan.helper)} tokens, hidden has {len(hidden)}")
    layout = _lay_out(plan, layer, reply_width)
    rows = RowsOut(hidden, tokens=layout.tokens, ranks=layout.ranks, layer=layer, rotation=rotation)
    return [
        Share(
            helper=helper,
            tokens=layout.tokens[a:b],
            hidden=rows.of(a, b),
            pairs=layout.pairs[p:q],
            weights=layout.weights[p:q],
            scale=layout.scale[a:b],
            reply_runs=_runs(layout.replies[a:b]),
        )
        for helper, (a, b), (p, q) in layout.runs
    ]


class _Layout(NamedTuple):
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


def _lay_out(plan: SelectionPlan, layer: int, reply_width: int) -> _Layout:
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
    return _Layout(token, rank, replies, table, sent, scale, runs)


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


def _runs(widths: IntArray) -> tuple[tuple[int, int], ...]:
    """Widths in runs of (width, rows)."""
    begins = np.flatnonzero(_begins(widths))
    counts = np.diff(np.append(begins, len(widths)))
    return tuple(zip(widths[begins].tolist(), counts.tolist(), strict=True))


def _begins(values: IntArray) -> NDArray[np.bool_]:
    """Mark where the runs of a sorted array begin."""
    begins = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=begins[1:])
    return begins


def combine(
    shares: Sequence[Share],
    outputs: Mapping[int, NDArray[np.floating[Any]]],
    *,
    num_tokens: int,
    hidden_size: int,
) -> Float32Array:
    """Sum the helpers' results in the order of ``shares``.

    Parameters
    ----------
    shares : sequence of Share
        As `group` returns them.
    outputs : mapping
        (n, d) weighted sums (`Share.scaled`) of each helper that answered; a share without one
        adds nothing.
    num_tokens, hidden_size : int

    Returns
    -------
    (T, d) float32
    """
    total = np.zeros((num_tokens, hidden_size), dtype=np.float32)
    for share in shares:
        if share.helper in outputs:
            total[share.tokens] += outputs[share.helper]  # tokens of a share are distinct
    return total
