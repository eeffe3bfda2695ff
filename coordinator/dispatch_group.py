"""A plan's work split by helper, and the parts added up again: pure functions over arrays.

A helper gets each token's vector once, however many of its experts the token uses there, and
answers with one vector per token: the weighted sum over its experts. What comes back is added up
in the order of the helpers' indices, so the sum does not depend on who answers first.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from siftmoe.agent.protocol import Apply
from siftmoe.coordinator.selection import LOCAL, NOBODY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from siftmoe.coordinator.selection import SelectionPlan

    Float32Array = NDArray[np.float32]
    IntArray = NDArray[np.int64]

PayloadDtype = Literal["float32", "float16"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Share:
    """What of a batch one helper computes.

    Parameters
    ----------
    helper : int
        Its index, or ``LOCAL``.
    tokens : (n,) int64
        Ascending; row i of the others is token ``tokens[i]`` of the batch.
    hidden : (n, d) float32 or float16
    pairs : (m, 2) int32
        (row, expert), each pair once.
    weights : (m,) float32
    """

    helper: int
    tokens: IntArray
    hidden: NDArray[np.floating[Any]]
    pairs: NDArray[np.int32]
    weights: Float32Array

    def request(self, *, request_id: int, layer: int, deadline_s: float | None = None) -> Apply:
        """Message that asks for it."""
        return Apply(
            id=request_id,
            layer=layer,
            hidden=self.hidden,
            pairs=self.pairs,
            weights=self.weights,
            deadline_s=deadline_s,
        )


def group(
    plan: SelectionPlan, hidden: Float32Array, *, payload_dtype: PayloadDtype = "float32"
) -> list[Share]:
    """Split a layer's work by helper.

    Slots of a token that the same expert of the same helper serves become one pair with the sum of
    their weights; skipped slots add nothing.

    Parameters
    ----------
    plan : SelectionPlan
    hidden : (T, d) float32
    payload_dtype : str
        Precision in which vectors travel; local experts get them as they are.

    Returns
    -------
    list of Share
        By ascending helper; ``LOCAL`` comes first.

    Raises
    ------
    ValueError
        If the batch is not the plan's, or a number is beyond float16 where that is asked for.
    """
    if len(hidden) != len(plan.helper):
        raise ValueError(f"the plan is for {len(plan.helper)} tokens, hidden has {len(hidden)}")
    layout = _lay_out(plan)
    payload = hidden[layout.tokens]  # [v, d]
    shares = []
    for helper, (a, b), (p, q) in layout.runs:
        shares.append(
            Share(
                helper=helper,
                tokens=layout.tokens[a:b],
                hidden=payload[a:b] if helper == LOCAL else _narrow(payload[a:b], payload_dtype),
                pairs=layout.pairs[p:q],
                weights=layout.weights[p:q],
            )
        )
    return shares


class _Layout(NamedTuple):
    """All shares one after the other.

    ``tokens`` [v], one per vector that goes out; ``pairs`` [m, 2] with rows counted within their
    share; ``weights`` [m]; for each helper its range of vectors and its range of pairs.
    """

    tokens: IntArray
    pairs: NDArray[np.int32]
    weights: Float32Array
    runs: list[tuple[int, tuple[int, int], tuple[int, int]]]


def _lay_out(plan: SelectionPlan) -> _Layout:
    num_tokens, slots = plan.helper.shape
    used = np.flatnonzero(plan.helper != NOBODY)  # [s] of [T * K]
    expert = plan.expert.reshape(-1)[used]
    num_experts = int(expert.max(initial=0)) + 1
    # A vector is one (helper, token), a pair one (helper, token, expert); both sort as numbers.
    vector = (plan.helper.reshape(-1)[used] - LOCAL) * num_tokens + used // slots
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
    helper = vector // num_tokens  # [v]
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
    return _Layout(vector % num_tokens, table, weights.astype(np.float32), list(runs))


def _begins(values: IntArray) -> NDArray[np.bool_]:
    """Mark where the runs of a sorted array begin."""
    begins = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=begins[1:])
    return begins


def _narrow(hidden: Float32Array, dtype: PayloadDtype) -> NDArray[np.floating[Any]]:
    if dtype == "float32":
        return hidden
    try:
        with np.errstate(over="raise"):
            return hidden.astype(np.float16)
    except FloatingPointError as error:
        raise ValueError(
            f"hidden states reach {np.abs(hidden).max():g}, float16 ends at 65504; "
            f"set payload_dtype to float32"
        ) from error


def combine(
    shares: Sequence[Share],
    outputs: Mapping[int, NDArray[np.floating[Any]]],
    *,
    num_tokens: int,
    hidden_size: int,
) -> Float32Array:
    """Add up what helpers computed, in the order of ``shares``.

    Parameters
    ----------
    shares : sequence of Share
        As `group` returns them.
    outputs : mapping
        (n, d) of each helper that answered; a share without one adds nothing.
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
