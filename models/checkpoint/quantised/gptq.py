r"""GPTQ: integers of 2, 3, 4 or 8 bits, packed along the inputs, with scales per group of inputs.

.. math:: w_{ji} = s_{g(i), j}\,(q_{ij} - z_{g(i), j})

for input i and output j. Groups g follow each other, or ``g_idx`` names that of every input (act
order). The first format stores z - 1 in ``qzeros``, the second ("gptq_v2") z.

[S] Layouts: AutoGPTQ, GPTQModel. [D] Which of the two formats it is where nothing says so
(`zero_offset`): symmetric zero points are half the range, 8 of 16; else codes of trained weights
lie about their zero point, so their mean distance from what is stored is near 0 or near 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from siftmoe.models.checkpoint.quantised.groups import checked_index, group_index, group_size
from siftmoe.models.checkpoint.quantised.weight import (
    FLOATS,
    QuantisedWeight,
    Stored,
    decode_rows,
    unfit,
)
from siftmoe.models.checkpoint.quantised.words import WORD_BITS, period, unpack_columns, unpack_rows

if TYPE_CHECKING:
    from torch import Tensor

    from siftmoe.models.checkpoint.files import ReadTensor

_BITS = (2, 3, 4, 8)
#: How far a mean distance may lie from 0 or 1 to decide between the formats.
_CLEAR = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class GptqWeight(QuantisedWeight):
    """A linear layer of GPTQ; ``stem`` is the name of its module with a dot."""

    stem: str
    bits: int
    group: int | None
    offset: int

    def matrix(self, read: ReadTensor, expert: int | None) -> Tensor:
        """Decode one matrix; the result is a transposed view."""
        outputs, inputs = self.shape[-2:]
        words = read(f"{self.stem}qweight", expert)
        scale = read(f"{self.stem}scales", expert).to(torch.float32)
        zero = _zeros(read(f"{self.stem}qzeros", expert), self.bits, outputs)
        # z - 1 is stored in the bits of a code: 15 stands for 0
        zero = ((zero + self.offset) & ((1 << self.bits) - 1)).to(torch.float32)
        index = self._index(read, expert, inputs, len(scale))
        span, count = period(self.bits)

        def decode(first: int, last: int) -> Tensor:
            packed = words[first // count * span : -(-last // count) * span]
            numbers = unpack_rows(packed, self.bits)[: last - first].to(torch.float32)
            group = index[first:last]
            return numbers.sub_(zero[group]).mul_(scale[group])

        return decode_rows((inputs, outputs), decode, multiple=count).T

    def _index(self, read: ReadTensor, expert: int | None, inputs: int, count: int) -> Tensor:
        if self.group is not None:
            return group_index(inputs, self.group)
        name = f"{self.stem}g_idx"
        return checked_index(read(name, expert), count, name=name)


def recognise_gptq(name: str, stored: Stored) -> GptqWeight | None:
    """Recognise ``qweight`` packed along the inputs."""
    stem = name.removesuffix("qweight")
    parts = [name, f"{stem}scales", f"{stem}qzeros"]
    if stem == name or not all(part in stored.headers for part in parts):
        return None
    packed, scales, zeros = (stored.shape(part) for part in parts)
    if len(packed) != 2 or stored.dtype(name) != "I32" or packed[1:] != scales[1:]:
        return None
    outputs, index = packed[1], f"{stem}g_idx"
    bits = _bits(zeros[-1], outputs)
    fits = bits is not None and packed[0] % period(bits)[0] == 0 and zeros[:-1] == scales[:1]
    if bits is None or not fits or stored.dtype(parts[1]) not in FLOATS:
        raise unfit(f"{stem}weight", parts[2], zeros, why=f"does not fit scales {list(scales)}")
    inputs, group = packed[0] * WORD_BITS // bits, None
    if index in stored.headers and stored.shape(index) != (0,):
        if stored.shape(index) != (inputs,):
            raise unfit(f"{stem}weight", index, stored.shape(index), why="is not one per input")
        parts.append(index)
    else:
        group = group_size(inputs, scales[0], hints=stored.hints.groups)
        if group is None:
            raise unfit(f"{stem}weight", parts[1], scales, why=f"does not fit {inputs} inputs")
    return GptqWeight(
        name=f"{stem}weight",
        shape=(outputs, inputs),
        parts=tuple(parts),
        stem=stem,
        bits=bits,
        group=group,
        offset=1,
    )


def zero_offset(weight: GptqWeight, stored: Stored) -> int | None:
    """Find what to add to a weight's stored zero points: 1 in the first format, 0 in the second.

    Returns
    -------
    int or None
        None if neither these tensors nor a configuration decide it.
    """
    zeros = _zeros(stored.read(f"{weight.stem}qzeros"), weight.bits, weight.shape[0])
    middle = 1 << (weight.bits - 1)
    if zeros.numel() and zeros.min() == zeros.max() and int(zeros[0, 0]) in (middle - 1, middle):
        return middle - int(zeros[0, 0])
    formats = stored.hints.formats
    if "gptq_v2" in formats:
        return 0
    if "gptq" in formats:
        return 1
    plain = weight.decode(stored.read)  # with an offset of 1
    index = weight._index(stored.read, None, weight.shape[1], len(zeros))
    scale = stored.read(f"{weight.stem}scales").to(torch.float32)[index].T  # [out, in]
    distance = float((plain / scale).nanmean()) + 1.0  # of codes from the stored zero points
    near = [offset for offset in (0, 1) if abs(distance - offset) < _CLEAR]
    return near[0] if near else None


def _zeros(words: Tensor, bits: int, outputs: int) -> Tensor:
    """Unpack zero points, (G, out) int32."""
    return unpack_columns(words, bits)[:, :outputs].to(torch.int32)


def _bits(width: int, outputs: int) -> int | None:
    """Bits of a code, by the width of the packed zero points of all outputs."""
    for bits in _BITS:
        span, count = period(bits)
        if width == -(-outputs // count) * span:
            return bits
    return None
