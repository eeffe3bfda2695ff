r"""AWQ: integers of 4 bits, packed along the outputs in an interleaved order.

.. math:: w_{ji} = s_{g(i), j}\,(q_{ij} - z_{g(i), j})

for input i and output j; the eight outputs of a word lie in the order 0 2 4 6 1 3 5 7, lowest bits
first. Zero points have the same form and no offset.

[S] Layout: AutoAWQ, version "gemm". Its other versions are packed otherwise and are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from siftmoe.models.checkpoint.quantised.groups import group_index, group_size
from siftmoe.models.checkpoint.quantised.weight import (
    FLOATS,
    QuantisedWeight,
    Stored,
    decode_rows,
    unfit,
)
from siftmoe.models.checkpoint.quantised.words import WORD_BITS, unpack_columns

if TYPE_CHECKING:
    from torch import Tensor

    from siftmoe.models.checkpoint.files import ReadTensor

BITS = 4
#: Output that each half byte of a word belongs to, lowest bits first.
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
_PER_WORD = WORD_BITS // BITS
_OTHER_VERSIONS = frozenset({"gemv", "gemv_fast", "marlin"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AwqWeight(QuantisedWeight):
    """A linear layer of AWQ; ``stem`` is the name of its module with a dot."""

    stem: str
    group: int

    def matrix(self, read: ReadTensor, expert: int | None) -> Tensor:
        """Decode one matrix; the result is a transposed view."""
        outputs, inputs = self.shape[-2:]
        words = read(f"{self.stem}qweight", expert)
        scale = read(f"{self.stem}scales", expert).to(torch.float32)
        zero = _in_order(read(f"{self.stem}qzeros", expert)).to(torch.float32)
        index = group_index(inputs, self.group)

        def decode(first: int, last: int) -> Tensor:
            numbers = _in_order(words[first:last]).to(torch.float32)
            group = index[first:last]
            return numbers.sub_(zero[group]).mul_(scale[group])

        return decode_rows((inputs, outputs), decode).T


def recognise_awq(name: str, stored: Stored) -> AwqWeight | None:
    """Recognise ``qweight`` packed along the outputs."""
    stem = name.removesuffix("qweight")
    scales, zeros = f"{stem}scales", f"{stem}qzeros"
    if stem == name or scales not in stored.headers or zeros not in stored.headers:
        return None
    packed, found = stored.shape(name), stored.shape(scales)
    if len(packed) != 2 or stored.dtype(name) != "I32" or len(found) != 2:
        return None
    if packed[1] * _PER_WORD != found[1] or stored.hints.formats & _OTHER_VERSIONS:
        return None
    group = group_size(packed[0], found[0], hints=stored.hints.groups)
    fits = stored.shape(zeros) == (found[0], packed[1]) and stored.dtype(zeros) == "I32"
    if group is None or not fits or stored.dtype(scales) not in FLOATS:
        raise unfit(f"{stem}weight", zeros, stored.shape(zeros), why=f"or {scales!r} does not fit")
    return AwqWeight(
        name=f"{stem}weight",
        shape=(found[1], packed[0]),
        parts=(name, scales, zeros),
        stem=stem,
        group=group,
    )


def _in_order(words: Tensor) -> Tensor:
    """Unpack (r, m) words to (r, 8m) uint8 in the order of the outputs."""
    raw = unpack_columns(words, BITS).reshape(len(words), -1, _PER_WORD)
    ordered = torch.empty_like(raw)
    ordered[:, :, list(ORDER)] = raw
    return ordered.flatten(1)
