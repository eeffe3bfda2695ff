"""A plan's work split by helper, and the parts added up again: pure functions over arrays.

A helper gets each token's vector once, however many of its experts the token uses there, and
answers with one vector per token: the weighted sum over its experts. What comes back is added up
in the order of the helpers' indices, so the sum does not depend on who answers first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

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
    num_tokens, slots = plan.helper.shape
    if len(hidden) != num_tokens:
        raise ValueError(f"the plan is for {num_tokens} tokens, hidden has {len(hidden)}")
    used = np.flatnonzero(plan.helper != NOBODY)  # [s] of [T * K]
    if not used.size:
        return []
    expert = plan.expert.reshape(-1)[used]
    num_experts = int(expert.max()) + 1
    # A vector is one (helper, token), a pair one (helper, token, expert); both sort as numbers.
    vector = (plan.helper.reshape(-1)[used] - LOCAL) * num_tokens + used // slots  # [s]
    pairs, pair_of_slot = np.unique(vector * num_experts + expert, return_inverse=True)  # [m], [s]
    weights = np.bincount(pair_of_slot, weights=plan.weight.reshape(-1)[used])  # [m]
    vectors, vector_of_pair = np.unique(pairs // num_experts, return_inverse=True)  # [v], [m]
    tokens = vectors % num_tokens  # [v]
    table = np.stack((vector_of_pair, pairs % num_experts), axis=1)  # [m, 2]
    payload = hidden[tokens]  # [v, d]
    shares = []
    for helper, a, b in _runs(vectors // num_tokens + LOCAL):
        p, q = np.searchsorted(vector_of_pair, (a, b))
        shares.append(
            Share(
                helper=helper,
                tokens=tokens[a:b],
                hidden=payload[a:b] if helper == LOCAL else _narrow(payload[a:b], payload_dtype),
                pairs=(table[p:q] - (a, 0)).astype(np.int32),
                weights=weights[p:q].astype(np.float32),
            )
        )
    return shares


def _runs(values: IntArray) -> list[tuple[int, int, int]]:
    """Each value of a sorted array with the start and end of its run."""
    starts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist()]
    return list(zip(values[starts].tolist(), starts, [*starts[1:], len(values)], strict=True))


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
