r"""compressed-tensors' packed integers ("pack-quantized"): 2 to 8 bits, packed along the inputs.

.. math:: w_{ji} = s_{j, g(i)}\,(q_{ji} - z_{j, g(i)})

for input i and output j. Codes are signed and stored plus half their range; a word of 32 bits holds
32 / bits of them, rounded down, lowest bits first. Zero points are packed along the outputs in the
same way, or stored as int8. ``weight_shape`` has the shape before packing; ``weight_g_idx`` names
the group of every input (act order), -1 where it is not in use.

[S] Layout: compressed-tensors ``compressors/quantized_compressors/pack_quantized.py``.
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
from siftmoe.models.checkpoint.quantised.words import WORD_BITS, unpack_columns, unpack_rows

if TYPE_CHECKING:
    from torch import Tensor

    from siftmoe.models.checkpoint.files import ReadTensor

_BITS = (4, 8, 2, 3, 5, 6, 7)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedWeight(QuantisedWeight):
    """A packed weight.

    Parameters
    ----------
    bits : int
        Of a code.
    group : int or None
        Inputs under one scale; None with an index of groups.
    zero_point : str or None
        Name on disk.
    """

    bits: int
    group: int | None
    zero_point: str | None = None

    def matrix(self, read: ReadTensor, expert: int | None) -> Tensor:
        """Decode one matrix."""
        outputs, inputs = self.shape[-2:]
        words = read(f"{self.name}_packed", expert)
        scale = read(f"{self.name}_scale", expert).to(torch.float32).reshape(-1, self._groups(read))
        zero = self._zero(read, expert, outputs)
        index, half = self._index(read, expert, scale.shape[1]), 1 << (self.bits - 1)

        def decode(first: int, last: int) -> Tensor:
            codes = unpack_columns(words[first:last], self.bits, gapless=False)[:, :inputs]
            numbers = codes.to(torch.float32) - half
            if zero is not None:
                numbers -= zero[first:last][:, index]
            rows = scale if len(scale) == 1 else scale[first:last]
            return numbers.mul_(rows[:, index])

        return decode_rows((outputs, inputs), decode)

    def _groups(self, read: ReadTensor) -> int:
        shape = read(f"{self.name}_scale").shape
        return int(shape[-1]) if len(shape) > 1 else 1

    def _zero(self, read: ReadTensor, expert: int | None, outputs: int) -> Tensor | None:
        if self.zero_point is None:
            return None
        stored = read(self.zero_point, expert)
        if stored.dtype != torch.int32:
            return stored.to(torch.float32)
        codes = unpack_rows(stored, self.bits, gapless=False)[:outputs]
        return codes.to(torch.float32) - (1 << (self.bits - 1))

    def _index(self, read: ReadTensor, expert: int | None, count: int) -> Tensor:
        inputs = self.shape[-1]
        if self.group is not None:
            return group_index(inputs, self.group)
        name = f"{self.name}_g_idx"
        index = read(name, expert)
        if bool((index < 0).all()):  # stored, but not in use
            size = group_size(inputs, count, hints=())
            if size is None:
                raise unfit(self.name, name, tuple(index.shape), why="names no groups")
            return group_index(inputs, size)
        return checked_index(index, count, name=name)


def recognise_packed(name: str, stored: Stored) -> PackedWeight | None:
    """Recognise ``X_packed`` with ``X_scale`` and ``X_shape``."""
    plain = name.removesuffix("_packed")
    scale, original, index = (f"{plain}_{part}" for part in ("scale", "shape", "g_idx"))
    if plain == name or stored.dtype(name) != "I32" or scale not in stored.headers:
        return None
    if original not in stored.headers:
        raise unfit(plain, name, stored.shape(name), why=f"has no {original!r} beside")
    shape = tuple(int(length) for length in stored.read(original).tolist())
    words, scales = stored.shape(name), stored.shape(scale)
    bits = _bits(words, shape)
    groups = scales[-1] if len(scales) == 2 else 1
    fits = len(shape) == 2 and (len(scales) < 2 or scales[0] in (1, shape[0]))
    if bits is None or not fits or stored.dtype(scale) not in FLOATS:
        raise unfit(plain, scale, scales, why=f"or {name!r} does not fit a weight {list(shape)}")
    parts = [name, scale, original]
    group = None
    if index in stored.headers:
        parts.append(index)
    else:
        group = group_size(shape[1], groups, hints=stored.hints.groups)
        if group is None:
            raise unfit(plain, scale, scales, why=f"does not fit {shape[1]} inputs")
    zero_point = _zero_point(plain, stored, rows=shape[0], bits=bits, groups=groups)
    return PackedWeight(
        name=plain,
        shape=shape,
        parts=(*parts, *([zero_point] if zero_point else [])),
        bits=bits,
        group=group,
        zero_point=zero_point,
    )


def _zero_point(plain: str, stored: Stored, *, rows: int, bits: int, groups: int) -> str | None:
    name = f"{plain}_zero_point"
    if name not in stored.headers:
        return None
    packed = stored.dtype(name) == "I32"
    wanted = (-(-rows // (WORD_BITS // bits)) if packed else rows, groups)
    if stored.shape(name) != wanted or stored.dtype(name) not in ("I32", "I8"):
        raise unfit(plain, name, stored.shape(name), why=f"is not {list(wanted)}")
    return name


def _bits(words: tuple[int, ...], shape: tuple[int, ...]) -> int | None:
    """Bits of a code, by the words of a row."""
    for bits in _BITS:
        if len(words) == len(shape) == 2 and words == (
            shape[0],
            -(-shape[1] // (WORD_BITS // bits)),
        ):
            return bits
    return None
