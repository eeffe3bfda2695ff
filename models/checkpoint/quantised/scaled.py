r"""Codes of 8 bits with scales: fp8 and int8 per tensor, channel, group or block, and LLM.int8.

.. math:: w_{ij} = s_{\lfloor i/r \rfloor, \lfloor j/c \rfloor} (q_{ij} - z_{\lfloor i/r \rfloor,
          \lfloor j/c \rfloor})

with codes q, scales s, zero points z (0 where none are stored) and r × c entries under one scale:
all for one scale per tensor, 1 × C per output channel, 128 × 128 in the releases of DeepSeek-V3 and
Qwen3. Edges that r and c do not divide have smaller blocks. ``weight_scale_inv`` is multiplied with
like every other scale; its name means the inverse of the factor that quantised.

bitsandbytes' LLM.int8 stores each row's largest value, ``SCB``, so s = SCB / 127.

[S] Layouts: DeepSeek-V3 (``inference/kernel.py`` of its release), ModelOpt, compressed-tensors,
bitsandbytes. [D] Sizes of blocks from shapes, `groups.group_size`.
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

if TYPE_CHECKING:
    from torch import Tensor

    from siftmoe.models.checkpoint.files import ReadTensor

_FP8 = frozenset({"F8_E4M3", "F8_E5M2"})
_INTEGERS = frozenset({"I8", "U8"})
_ZERO_POINTS = FLOATS | {"I8", "U8", "I32", "I64"}
_LARGEST_INT8 = 127.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledWeight(QuantisedWeight):
    """Codes of 8 bits with scales.

    Parameters
    ----------
    codes, scale : str
        Names on disk.
    grid : tuple of int
        Shape to view a matrix's scales in, (R', C').
    block : (int, int)
        Rows and columns under one scale.
    per_expert : bool
        Whether the first axis of the scales is that of the experts.
    zero_point : str or None
    divisor : float
        Of the scales.
    """

    codes: str
    scale: str
    grid: tuple[int, int]
    block: tuple[int, int]
    per_expert: bool
    zero_point: str | None = None
    divisor: float = 1.0

    def matrix(self, read: ReadTensor, expert: int | None) -> Tensor:
        """Decode one matrix."""
        rows, columns = self.shape[-2:]
        codes = read(self.codes, expert)
        at = expert if self.per_expert else None
        scale = scale_numbers(read(self.scale, at)).reshape(self.grid) / self.divisor
        zero = None
        if self.zero_point is not None:
            zero = read(self.zero_point, at).to(torch.float32).reshape(self.grid)
        row, column = group_index(rows, self.block[0]), group_index(columns, self.block[1])

        def decode(first: int, last: int) -> Tensor:
            numbers = codes[first:last].to(torch.float32)
            if zero is not None:
                numbers -= _spread(zero, row[first:last], column)
            return numbers.mul_(_spread(scale, row[first:last], column))

        return decode_rows((rows, columns), decode)


def recognise_scaled(name: str, stored: Stored) -> ScaledWeight | None:
    """Recognise codes in fp8 or int8 with their scales."""
    shape = stored.shape(name)
    if stored.dtype(name) not in _FP8 | _INTEGERS or len(shape) not in (2, 3):
        return None
    scale, zero_point = (stored.one_of(names(name)) for names in (scale_names, _zero_point_names))
    # bytes are no numbers by themselves: two codes may share one, or an offset be left unsaid
    if scale is None or (stored.dtype(name) == "U8" and zero_point is None):
        return None
    exponents = {"U8", "F8_E8M0"} if stored.dtype(name) in _FP8 else set()
    if stored.dtype(scale) not in FLOATS | exponents:
        raise unfit(name, scale, stored.shape(scale), why=f"is stored in {stored.dtype(scale)}")
    grid, block, per_expert = _layout(name, scale, stored)
    if zero_point is not None and (
        stored.shape(zero_point) != stored.shape(scale)
        or stored.dtype(zero_point) not in _ZERO_POINTS
    ):
        raise unfit(
            name, zero_point, stored.shape(zero_point), why=f"({stored.dtype(zero_point)}) differs"
        )
    return ScaledWeight(
        name=name,
        shape=shape,
        parts=tuple(part for part in (name, scale, zero_point) if part is not None),
        codes=name,
        scale=scale,
        grid=grid,
        block=block,
        per_expert=per_expert,
        zero_point=zero_point,
    )


def recognise_llm_int8(name: str, stored: Stored) -> ScaledWeight | None:
    """Recognise bitsandbytes' LLM.int8: rows in int8 and the largest value of each."""
    shape, stem = stored.shape(name), name.removesuffix("weight")
    largest, layout = f"{stem}SCB", f"{stem}weight_format"
    if stored.dtype(name) != "I8" or len(shape) != 2 or largest not in stored.headers:
        return None
    parts = [name, largest]
    if layout in stored.headers:
        if int(stored.read(layout)):
            raise unfit(name, layout, stored.shape(layout), why="says that rows are interleaved")
        parts.append(layout)
    if stored.shape(largest) != (shape[0],):
        raise unfit(name, largest, stored.shape(largest), why="is not one number per row")
    return ScaledWeight(
        name=name,
        shape=shape,
        parts=tuple(parts),
        codes=name,
        scale=largest,
        grid=(shape[0], 1),
        block=(1, shape[1]),
        per_expert=False,
        divisor=_LARGEST_INT8,
    )


def scale_names(name: str) -> list[str]:
    """Names that releases give to the scale of a weight."""
    names = [f"{name}_scale", f"{name}_scale_inv"]
    stem = name.removesuffix("weight")
    if stem != name:
        return [*names, *(f"{stem}{word}" for word in ("scale", "scale_weight", "qscale_weight"))]
    # fused experts are no module of their own: gate_up_proj, gate_up_proj_weight_scale
    return [*names, *(f"{name}_weight_{word}" for word in ("scale", "scale_inv"))]


def scale_numbers(scale: Tensor) -> Tensor:
    """Scales as float32; bytes are exponents of two with bias 127 (e8m0)."""
    if scale.dtype == torch.uint8:
        return torch.exp2(scale.to(torch.float32) - 127.0)
    return scale.to(torch.float32)


def _zero_point_names(name: str) -> list[str]:
    return [f"{name}_zero_point", f"{name.removesuffix('weight')}zero_point"]


def _spread(scale: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Repeat scales (R', C') for rows and columns; axes with one scale stay of length 1."""
    spread = scale[rows] if scale.shape[0] > 1 else scale
    return spread[:, columns] if scale.shape[1] > 1 else spread


def _layout(name: str, scale: str, stored: Stored) -> tuple[tuple[int, int], tuple[int, int], bool]:
    """Grid and block of a matrix's scales, and whether each expert has its own."""
    shape, found = stored.shape(name), stored.shape(scale)
    rows, columns = shape[-2:]
    # only as many experts as the first axis has; a scalar beside fused experts is shared by all
    per_expert = len(shape) == 3 and len(found) > 0 and found[0] == shape[0]
    own = found[1:] if per_expert else found
    if all(length == 1 for length in own):
        return (1, 1), (rows, columns), per_expert
    grid = _grid(own, rows, columns, transposed=stored.transposed and len(shape) == 3)
    if grid is not None:
        across = [hint[0] for hint in stored.hints.blocks]
        along = [*(hint[1] for hint in stored.hints.blocks), *stored.hints.groups]
        block = (
            group_size(rows, grid[0], hints=across),
            group_size(columns, grid[1], hints=along),
        )
        if block[0] is not None and block[1] is not None:
            return grid, (block[0], block[1]), per_expert
    raise unfit(name, scale, found, why=f"does not fit its weights of {list(shape)}")


def _grid(
    own: tuple[int, ...], rows: int, columns: int, *, transposed: bool
) -> tuple[int, int] | None:
    """View the scales of a matrix with two axes."""
    while len(own) > 2 and own[-1] == 1:
        own = own[:-1]
    if len(own) == 2:
        return own[0], own[1]
    if len(own) != 1 or own[0] not in (rows, columns):
        return None
    by_column = transposed if rows == columns else own[0] == columns
    return (1, columns) if by_column else (rows, 1)
