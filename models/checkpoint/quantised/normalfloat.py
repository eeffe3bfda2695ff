r"""Codes of 4 bits as bitsandbytes stores them: nf4 and fp4, two in a byte, high half first.

A weight is flattened and cut into blocks of b numbers:

.. math:: w_k = a_{\lfloor k / b \rfloor}\, v(q_k)

with the 16 values v in ``quant_map`` and each block's largest magnitude a in ``absmax``. Doubly
quantised, ``absmax`` is bytes: :math:`a_m = n_{\lfloor m / c \rfloor}\, u(q_m) + o` with the 256
values u in ``nested_quant_map``, n in ``nested_absmax``, and c and o in the stored state.

[S] QLoRA (arXiv 2305.14314); bitsandbytes ``functional.QuantState``.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from siftmoe.models.checkpoint.quantised.fp4 import nibbles
from siftmoe.models.checkpoint.quantised.weight import (
    QuantisedWeight,
    Stored,
    decode_rows,
    unfit,
)

if TYPE_CHECKING:
    from torch import Tensor

    from siftmoe.models.checkpoint.files import ReadTensor

_STATES = ("quant_state.bitsandbytes__nf4", "quant_state.bitsandbytes__fp4")


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalFloatWeight(QuantisedWeight):
    """A weight in blocks of 4-bit codes over its flattened numbers.

    Parameters
    ----------
    block : int
        Numbers under one ``absmax``.
    nested : (int, float) or None
        Block size and offset of doubly quantised ``absmax``.
    """

    block: int
    nested: tuple[int, float] | None = None

    def matrix(self, read: ReadTensor, expert: int | None) -> Tensor:
        """Decode one matrix."""
        rows, columns = self.shape[-2:]
        start = (expert or 0) * rows * columns
        if start % 2:
            raise unfit(self.name, self.name, self.shape, why="has experts that share a byte")
        codes, largest = read(self.name).flatten(), self._largest(read)
        values = read(f"{self.name}.quant_map").to(torch.float32)

        def decode(first: int, last: int) -> Tensor:
            at, end = start + first * columns, start + last * columns
            # from the byte that holds the first number to that of the last
            halves = nibbles(codes[at // 2 : -(-end // 2)], high_first=True)[at % 2 :][: end - at]
            block = torch.arange(at, end, dtype=torch.int64).div_(self.block, rounding_mode="floor")
            return (values[halves] * largest[block]).view(last - first, columns)

        return decode_rows((rows, columns), decode)

    def _largest(self, read: ReadTensor) -> Tensor:
        largest = read(f"{self.name}.absmax").flatten()
        if self.nested is None:
            return largest.to(torch.float32)
        size, offset = self.nested
        outer = read(f"{self.name}.nested_absmax").to(torch.float32)
        inner = read(f"{self.name}.nested_quant_map").to(torch.float32)[largest.long()]
        return inner * outer.repeat_interleave(size)[: len(inner)] + offset


def recognise_normalfloat(name: str, stored: Stored) -> NormalFloatWeight | None:
    """Recognise a weight with a stored state of bitsandbytes."""
    state_name = stored.one_of(f"{name}.{state}" for state in _STATES)
    if state_name is None:
        return None
    state = json.loads(bytes(stored.read(state_name).tolist()))
    shape, block = tuple(int(length) for length in state["shape"]), int(state["blocksize"])
    nested = "nested_blocksize" in state
    names = ["absmax", "quant_map", *(["nested_absmax", "nested_quant_map"] if nested else [])]
    parts = [name, *(f"{name}.{part}" for part in names)]
    numbers = math.prod(shape)
    wanted = dict(zip(parts, _lengths(numbers, block, state), strict=True))
    for part, length in wanted.items():
        found = stored.shape(part) if part in stored.headers else ()
        if math.prod(found) != length or len(shape) not in (2, 3) or stored.dtype(name) != "U8":
            raise unfit(name, part, found, why=f"does not fit a weight of {list(shape)}")
    return NormalFloatWeight(
        name=name,
        shape=shape,
        parts=(*parts, state_name),
        block=block,
        nested=(int(state["nested_blocksize"]), float(state["nested_offset"])) if nested else None,
    )


def _lengths(numbers: int, block: int, state: dict[str, Any]) -> list[int]:
    """Entries of codes, absmax, values, and of the nested ones."""
    blocks = -(-numbers // block)
    lengths = [-(-numbers // 2), blocks, 16]
    if "nested_blocksize" in state:
        lengths += [-(-blocks // int(state["nested_blocksize"])), 256]
    return lengths
