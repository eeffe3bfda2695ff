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
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

from siftmoe.agent.wire.protocol import Apply
from siftmoe.coordinator.dispatch.layout import lay_out, runs_of_widths
from siftmoe.coordinator.dispatch.rows import RowsOut
from siftmoe.coordinator.selection.problem import LOCAL
from siftmoe.models.vectors.packing import FLOAT_WIDTHS

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
    layout = lay_out(plan, layer=layer, reply_width=reply_width)
    rows = RowsOut(hidden, tokens=layout.tokens, ranks=layout.ranks, layer=layer, rotation=rotation)
    return [
        Share(
            helper=helper,
            tokens=layout.tokens[a:b],
            hidden=rows.of(a, b),
            pairs=layout.pairs[p:q],
            weights=layout.weights[p:q],
            scale=layout.scale[a:b],
            reply_runs=runs_of_widths(layout.replies[a:b]),
        )
        for helper, (a, b), (p, q) in layout.runs
    ]


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
