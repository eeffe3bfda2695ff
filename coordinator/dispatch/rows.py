"""Encodes the vectors of a batch for each helper, in the widths of the plan.

A token that is sent to several helpers at one width is quantised once.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siftmoe.agent.wire.protocol import packed
from siftmoe.models.vectors.fused import write_runs
from siftmoe.models.vectors.packing import FLOAT_WIDTHS
from siftmoe.models.vectors.quantise import NotFinite
from siftmoe.models.vectors.records import ROW_WIDTHS, to_records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from siftmoe.agent.wire.protocol import Vectors
    from siftmoe.models.vectors.quantise import Rotation

    ByteArray = NDArray[np.uint8]
    Float32Array = NDArray[np.float32]
    IntArray = NDArray[np.int64]

#: Rank of a width among the known ones, from 1; 0 where nothing is sent, -1 for no known width.
RANK: Final = np.full(ROW_WIDTHS[-1] + 2, -1)
RANK[[0, *ROW_WIDTHS]] = range(len(ROW_WIDTHS) + 1)
RANKS: Final = len(ROW_WIDTHS) + 1

_BEYOND_FLOAT16 = 65504.0


class RowsOut:
    """Vectors of a batch as sent; quantised once per token and width.

    Parameters
    ----------
    hidden : (T, d) float32
    tokens : (v,) int64
        Of every vector that is sent.
    ranks : (v,) int64
        `RANK` of its width.
    layer : int
        For messages.
    rotation : "none" or "hadamard"
    """

    def __init__(
        self,
        hidden: Float32Array,
        *,
        tokens: IntArray,
        ranks: IntArray,
        layer: int,
        rotation: Rotation,
    ) -> None:
        self._hidden = hidden
        self._tokens = tokens
        self._ranks = ranks
        self._layer = layer
        self._rotation: Rotation = rotation
        present = np.bincount(ranks, minlength=RANKS)
        quantised = [w for w in ROW_WIDTHS if w not in FLOAT_WIDTHS and present[RANK[w]]]
        self._records = self._quantise(quantised)

    def of(self, begin: int, end: int) -> Vectors:
        """Vectors ``begin`` to ``end`` of all that are sent, which are those of one helper."""
        tokens, ranks = self._tokens[begin:end], self._ranks[begin:end]
        cuts = [0, *(np.flatnonzero(ranks[1:] != ranks[:-1]) + 1).tolist(), end - begin]
        if len(cuts) == 2:
            width = int(ranks[0]) and ROW_WIDTHS[ranks[0] - 1]
            if width not in self._records:
                return self._plain(tokens, width)
        runs = []
        for a, b in pairwise(cuts):
            width = ROW_WIDTHS[ranks[a] - 1]
            if width in self._records:
                records, place = self._records[width]
                runs.append((width, records[place[tokens[a:b]]]))
            else:
                runs.append((width, to_records(self._plain(tokens[a:b], width), width)))
        return packed(runs, size=self._hidden.shape[1], rotation=self._rotation)

    def _plain(self, tokens: IntArray, width: int) -> NDArray[np.floating[Any]]:
        """Rows that are not quantised: as they are, or as float16."""
        rows = self._hidden[tokens]
        if width != 16:
            return rows
        try:
            with np.errstate(over="raise"):
                return rows.astype(np.float16)
        except FloatingPointError as error:
            large = np.abs(rows).max(axis=1)
            token = tokens[int((large > _BEYOND_FLOAT16).argmax())]
            raise ValueError(
                f"layer {self._layer}: the hidden state of token {token} reaches {large.max():g}, "
                f"float16 ends at {_BEYOND_FLOAT16:g}; send it at 32 bits"
            ) from error

    def _quantise(self, widths: Sequence[int]) -> dict[int, tuple[ByteArray, IntArray]]:
        """For each width the records of its tokens, and each token's place among them, (T,)."""
        if not widths:
            return {}
        of_width = [self._once(self._ranks == RANK[width]) for width in widths]
        tokens = np.concatenate([chosen for chosen, _ in of_width])
        runs = [(width, len(chosen)) for width, (chosen, _) in zip(widths, of_width, strict=True)]
        try:
            records = write_runs(self._hidden[tokens], runs, rotation=self._rotation)
        except NotFinite as error:
            raise ValueError(
                f"layer {self._layer}: the hidden state of token {tokens[error.row]} has a number "
                f"that is not finite, which cannot be sent in {error.width} bits; send it at 16"
            ) from error
        places = [place for _, place in of_width]
        return dict(zip(widths, zip(records, places, strict=True), strict=True))

    def _once(self, vectors: NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
        """Tokens of the marked vectors, each once, and each token's place among them, (T,)."""
        marked = np.zeros(len(self._hidden), dtype=bool)
        marked[self._tokens[vectors]] = True
        return marked.nonzero()[0], marked.cumsum() - 1
