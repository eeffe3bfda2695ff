"""Splits a plan's work by helper and sums the results: pure functions over arrays.

A helper gets each token's vector once, however many of its experts the token uses there, and
answers with one vector per token: the weighted sum over its experts. Results are added up in the
order of the helpers' indices, so the sum does not depend on the order of the replies.

The plan states the width of every vector's entries (`siftmoe.coordinator.dispatch.rows`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from siftmoe.agent.wire.protocol import Apply
from siftmoe.coordinator.dispatch.rows import RANK, RANKS, RowsOut
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
        Each once, those of one width together and ascending; row i of the other arrays is token
        ``tokens[i]`` of the batch.
    hidden : (n, d) float32 or float16, or Packed
        As sent; an array where all rows have 16 or all have 32 bits.
    pairs : (m, 2) int32
        (row, expert), each pair once.
    weights : (m,) float32
    """

    helper: int
    tokens: IntArray
    hidden: Vectors
    pairs: NDArray[np.int32]
    weights: Float32Array

    @property
    def payload_bits(self) -> int:
        """Bits of the vectors as sent, scales and padding included; 0 if none is sent."""
        return 0 if self.helper == LOCAL else 8 * self.hidden.nbytes

    def request(
        self,
        *,
        request_id: int,
        layer: int,
        reply_width: int,
        rotation: Rotation = "none",
        deadline_s: float | None = None,
    ) -> Apply:
        """Request for this share, with the reply's width and, if quantised, rotation."""
        apply = Apply(
            id=request_id,
            layer=layer,
            hidden=self.hidden,
            pairs=self.pairs,
            weights=self.weights,
            deadline_s=deadline_s,
        )
        if reply_width == apply.answer_width:  # older agents know only the default
            return apply
        turned = "none" if reply_width in FLOAT_WIDTHS else rotation
        return replace(apply, reply_width=reply_width, reply_rotation=turned)


def group(
    plan: SelectionPlan, hidden: Float32Array, *, layer: int, rotation: Rotation = "hadamard"
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

    Returns
    -------
    list of Share
        By ascending helper; ``LOCAL`` comes first.

    Raises
    ------
    ValueError
        If the batch is not the plan's, a width does not exist, a token would go to one helper at
        two widths, or a number to be sent as float16 is out of its range or not finite.
    """
    if len(hidden) != len(plan.helper):
        raise ValueError(f"the plan is for {len(plan.helper)} tokens, hidden has {len(hidden)}")
    layout = _lay_out(plan, layer)
    rows = RowsOut(hidden, tokens=layout.tokens, ranks=layout.ranks, layer=layer, rotation=rotation)
    return [
        Share(
            helper=helper,
            tokens=layout.tokens[a:b],
            hidden=rows.of(a, b),
            pairs=layout.pairs[p:q],
            weights=layout.weights[p:q],
        )
        for helper, (a, b), (p, q) in layout.runs
    ]


class _Layout(NamedTuple):
    """All shares, one after the other.

    ``tokens`` [v], one per vector that is sent; ``ranks`` [v] of their widths; ``pairs`` [m, 2]
    with rows counted within their share; ``weights`` [m]; for each helper its range of vectors and
    its range of pairs.
    """

    tokens: IntArray
    ranks: IntArray
    pairs: NDArray[np.int32]
    weights: Float32Array
    runs: list[tuple[int, tuple[int, int], tuple[int, int]]]


def _lay_out(plan: SelectionPlan, layer: int) -> _Layout:
    num_tokens, slots = plan.helper.shape
    used = np.flatnonzero(plan.helper != NOBODY)  # [s] of [T * K]
    helper, expert = plan.helper.reshape(-1)[used], plan.expert.reshape(-1)[used]
    num_experts = int(expert.max(initial=0)) + 1
    rank = _ranks(plan.width.reshape(-1)[used], helper, layer)
    # A vector is one (helper, width, token), a pair one (vector, expert); both sort as numbers.
    vector = ((helper - LOCAL) * RANKS + rank) * num_tokens + used // slots
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
    helper, rank = np.divmod(vector // num_tokens, RANKS)  # [v]
    _check_once(helper, rank, token, layer)
    begins_helper = _begins(helper)  # [v]
    first_vector = begins_helper.nonzero()[0]  # [h]
    start = first_vector[begins_helper.cumsum() - 1]  # [v], where its share begins
    table = np.empty((len(pair), 2), dtype=np.int32)
    table[:, 0] = place - start[place]
    table[:, 1] = pair % num_experts
    helpers = (helper[first_vector] + LOCAL).tolist()
    vector_ends = [*first_vector.tolist(), len(vector)]
    pair_ends = [*begins.nonzero()[0][first_vector].tolist(), len(pair)]
    runs = zip(helpers, pairwise(vector_ends), pairwise(pair_ends), strict=True)
    return _Layout(token, rank, table, weights.astype(np.float32), list(runs))


def _ranks(width: IntArray, helper: IntArray, layer: int) -> IntArray:
    """Ranks of the widths of slots, (s,); 0 on the user's device."""
    rank = np.where(helper == LOCAL, 0, RANK.take(width, mode="clip"))
    wrong = (rank < 0) | ((rank == 0) & (helper != LOCAL))
    if wrong.any():
        slot = int(wrong.argmax())
        raise ValueError(
            f"layer {layer}: the plan sends a vector to helper {helper[slot]} at {width[slot]} "
            f"bits, it must be one of {', '.join(map(str, ROW_WIDTHS))}"
        )
    return rank


def _check_once(helper: IntArray, rank: IntArray, token: IntArray, layer: int) -> None:
    """Raise ValueError if a token goes to a helper at two widths."""
    if not len(rank) or rank.min() == rank.max():
        return
    vectors = np.sort(helper * (token.max() + 1) + token)
    if (vectors[1:] == vectors[:-1]).any():
        twice = vectors[1:][vectors[1:] == vectors[:-1]][0] % (token.max() + 1)
        raise ValueError(
            f"layer {layer}: the plan sends token {twice} to one helper at two widths; it goes "
            f"there once"
        )


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
        (n, d), unpacked, of each helper that answered; a share without one adds nothing.
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
