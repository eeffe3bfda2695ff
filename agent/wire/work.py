"""Messages that carry hidden vectors: a request to compute and its result, with their headers."""

from __future__ import annotations

import numpy as np
from msgspec import UNSET, Struct, UnsetType
from numpy.typing import NDArray

from siftmoe.agent.wire.bounds import (
    Duration,
    Layer,
    RequestId,
    Runs,
    Shape,
    VectorsName,
    Version,
    Width,
)
from siftmoe.agent.wire.packed import Packed, Vectors
from siftmoe.models.vectors.quantise import Rotation


class Apply(Struct, frozen=True, kw_only=True, eq=False):
    """Request to run experts of one layer over hidden vectors.

    Parameters
    ----------
    id : int
        Unsigned 64 bit, echoed in the answer.
    layer : int
        MoE layer, counted from 0.
    hidden : (n, d) float32 or float16, or Packed
        A row that is not finite affects no other row.
    pairs : (m, 2) int32
        (row, expert) in any order.
    weights : (m,) float32
        Weight of each pair; finite.
    deadline_s : float or None, s
        Latest begin of the computation after the arrival; None sets no limit.
    reply_width : int or None, bit
        Bits per entry of the answer. None: as wide as ``hidden``, 16 if that is packed.
    reply_rotation : "none" or "hadamard"
        Rotation of a quantised answer.
    reply_runs : tuple of (width, rows), or None
        Widths of the answers in the order of the rows, instead of one ``reply_width``.
    residents : tuple of int, or None
        Experts of the layer that the agent hosts, ascending: the header may be short
        (`siftmoe.agent.wire.short`). None: it is a map.
    """

    id: int
    layer: int
    hidden: Vectors
    pairs: NDArray[np.int32]
    weights: NDArray[np.float32]
    deadline_s: float | None = None
    reply_width: int | None = None
    reply_rotation: Rotation = "none"
    reply_runs: tuple[tuple[int, int], ...] | None = None
    residents: tuple[int, ...] | None = None

    @property
    def answer_runs(self) -> tuple[tuple[int, int], ...]:
        """Widths of the answer in the order of the rows: (width, rows)."""
        return self.reply_runs or ((self.answer_width, self.hidden.shape[0]),)

    @property
    def answer_width(self) -> int:
        """Greatest width of an entry of the answer, bit."""
        if self.reply_runs is not None:
            return max(width for width, _ in self.reply_runs)
        if self.reply_width is not None:
            return self.reply_width
        return 16 if isinstance(self.hidden, Packed) else 8 * self.hidden.dtype.itemsize

    @property
    def answer_bytes(self) -> int:
        """Bytes of the answer's vectors, without scales and padding."""
        size = self.hidden.shape[1]
        return sum(rows * size * width // 8 for width, rows in self.answer_runs)


class Result(Struct, frozen=True, kw_only=True, eq=False):
    """Reply to an :class:`Apply`: for each row the weighted sum over this agent's experts.

    Parameters
    ----------
    id : int
    output : (n, d) float32 or float16, or Packed
    compute_s, queue_s : float, s
        Time of the computation (of the whole batch that it was part of) and of the wait before.
    short : bool
        Whether its header is short, as that of its request was.
    """

    id: int
    output: Vectors
    compute_s: float
    queue_s: float
    short: bool = False


class ApplyHeader(Struct, frozen=True, kw_only=True, tag_field="kind", tag="apply"):
    """Frame 0 of an :class:`Apply`."""

    v: Version
    id: RequestId
    layer: Layer
    dtype: VectorsName
    shape: Shape
    deadline_ms: Duration | None = None
    widths: Runs | UnsetType = UNSET
    rotation: Rotation | UnsetType = UNSET
    reply_width: Width | UnsetType = UNSET
    reply_rotation: Rotation | UnsetType = UNSET
    reply_widths: Runs | UnsetType = UNSET


class ResultHeader(Struct, frozen=True, kw_only=True, tag_field="kind", tag="result"):
    """Frame 0 of a :class:`Result`."""

    v: Version
    id: RequestId
    dtype: VectorsName
    shape: Shape
    compute_s: Duration
    queue_s: Duration
    widths: Runs | UnsetType = UNSET
    rotation: Rotation | UnsetType = UNSET
