r"""Floating-point codes of 4 bits (e2m1), two in a byte, low half first: MXFP4 and NVFP4.

.. math:: w_{ij} = \frac{s_{i, \lfloor j / c \rfloor}}{t}\, v(q_{ij})

with the values v of the 16 codes, a scale s for c inputs of a channel (MXFP4: 32, an exponent of
two; NVFP4: 16, in e4m3) and a factor t of the tensor: compressed-tensors divides by
``weight_global_scale``, ModelOpt multiplies with ``weight_scale_2``.

[S] OCP Microscaling Formats 1.0; the releases of gpt-oss (``*_blocks``, ``*_scales``),
compressed-tensors and ModelOpt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from siftmoe.models.checkpoint.quantised.scaled import scale_names, scale_numbers
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

_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
#: Values of the 16 codes; the highest bit is the sign.
VALUES = (*_MAGNITUDES, *(-value for value in _MAGNITUDES))
#: Inputs under one scale, by the precision of the scales.
_GROUP = {"U8": 32, "F8_E8M0": 32, "F8_E4M3": 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fp4Weight(QuantisedWeight):
    """Codes of 4 bits with a scale per group of inputs.

    Parameters
    ----------
    codes, scale : str
        Names on disk.
    factor : str or None
        Scale of the whole tensor, or of each expert.
    divides : bool
        Whether scales are divided by the factor instead of multiplied.
    transposed : bool
        Whether the plain weight is [in, out]; codes are always [out, in].
    """

    codes: str
    scale: str
    factor: str | None = None
    divides: bool = False
    transposed: bool = False

    def matrix(self, read: ReadTensor, expert: int | None) -> Tensor:
        """Decode one matrix."""
        codes = read(self.codes, expert).view(torch.uint8).flatten(1)  # [out, in / 2]
        scale = scale_numbers(read(self.scale, expert)) * self._factor(read, expert)
        group = 2 * codes.shape[1] // scale.shape[1]
        values = torch.tensor(VALUES)

        def decode(first: int, last: int) -> Tensor:
            numbers = values[nibbles(codes[first:last])].view(last - first, -1, group)
            return numbers.mul_(scale[first:last, :, None]).flatten(1)

        plain = decode_rows((codes.shape[0], 2 * codes.shape[1]), decode)
        return plain.T if self.transposed else plain

    def _factor(self, read: ReadTensor, expert: int | None) -> float:
        if self.factor is None:
            return 1.0
        factors = read(self.factor).flatten()
        factor = float(factors[expert if expert is not None and len(factors) > 1 else 0])
        return 1.0 / factor if self.divides else factor


def recognise_blocks(name: str, stored: Stored) -> Fp4Weight | None:
    """Recognise gpt-oss's form: ``X_blocks`` (…, out, groups, 16) and ``X_scales``."""
    plain = name.removesuffix("_blocks")
    scale, shape = f"{plain}_scales", stored.shape(name)
    if plain == name or scale not in stored.headers or stored.dtype(name) != "U8":
        return None
    if (
        len(shape) not in (3, 4)
        or stored.shape(scale) != shape[:-1]
        or stored.dtype(scale) not in ("U8", "F8_E8M0")
        or shape[-1] * 2 != _GROUP["U8"]
    ):
        raise unfit(plain, scale, stored.shape(scale), why=f"does not fit blocks {list(shape)}")
    fused = len(shape) == 4
    inner, outer = shape[-2] * shape[-1] * 2, shape[-3]
    return Fp4Weight(
        name=plain,
        shape=(shape[0], inner, outer) if fused else (outer, inner),
        parts=(name, scale),
        codes=name,
        scale=scale,
        transposed=fused,  # transformers' gpt-oss multiplies with [in, out]
    )


def recognise_packed_fp4(name: str, stored: Stored) -> Fp4Weight | None:
    """Recognise bytes of two codes [out, in / 2] beside scales [out, groups]."""
    shape, plain = stored.shape(name), name.removesuffix("_packed")
    if stored.dtype(name) not in ("U8", "I8") or len(shape) not in (2, 3):
        return None
    scale = stored.one_of(scale_names(plain))
    if scale is None or stored.dtype(scale) not in _GROUP:
        return None
    if stored.dtype(name) == "I8" and stored.dtype(scale) != "F8_E8M0":
        return None
    inner, found = 2 * shape[-1], stored.shape(scale)
    if found != (*shape[:-1], inner // _GROUP[stored.dtype(scale)]):
        raise unfit(plain, scale, found, why=f"does not fit codes {list(shape)}")
    factor, divides = _factor_of(plain, stored, scale=scale)
    return Fp4Weight(
        name=plain,
        shape=(*shape[:-1], inner),
        parts=tuple(part for part in (name, scale, factor) if part is not None),
        codes=name,
        scale=scale,
        factor=factor,
        divides=divides,
    )


def nibbles(codes: Tensor, *, high_first: bool = False) -> Tensor:
    """Split bytes (r, n) into halves (r, 2n), as int32 for use as an index."""
    low, high = (codes & 15).to(torch.int32), (codes >> 4).to(torch.int32)
    pair = (high, low) if high_first else (low, high)
    return torch.stack(pair, dim=-1).flatten(-2)


def _factor_of(plain: str, stored: Stored, *, scale: str) -> tuple[str | None, bool]:
    words = [f"{scale}_2", f"{plain}_scale_2", f"{plain}_global_scale", f"{plain}_weight_scale_2"]
    factor = stored.one_of(words)
    if factor is None:
        if stored.dtype(scale) == "F8_E4M3":  # NVFP4 always has one; without it values are wrong
            raise unfit(plain, scale, stored.shape(scale), why="has no scale of the tensor beside")
        return None, False
    shape, experts = stored.shape(factor), stored.shape(scale)[:-2]
    if stored.dtype(factor) not in FLOATS or any(
        length != 1 and (length,) != experts for length in shape
    ):
        raise unfit(plain, factor, shape, why=f"({stored.dtype(factor)}) is not one number")
    return factor, factor.endswith("_global_scale")
