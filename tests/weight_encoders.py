"""Encoders of single weights in quantised layouts, each with the values that the codes stand for.

Written from the formats' definitions, number by number where that is clearest, and with nothing of
the product: they judge its decoders. Each takes a linear weight [out, in] with its name, which ends
in ``.weight``, and gives the tensors to store and the true weight.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Encoded = tuple[dict[str, Tensor], Tensor]
Encoder = Callable[[str, Tensor], Encoded]

_E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0]
#: The 16 values of nf4, from the table of QLoRA's appendix.
_NF4 = [
    -1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0,
]  # fmt: skip


def stem(name: str) -> str:
    """Name of the module with a dot."""
    return name.removesuffix("weight")


def scaled(
    rows: int | None,
    columns: int | None,
    *,
    key: str = "weight_scale",
    dtype: torch.dtype = torch.float8_e4m3fn,
    shape: str = "keep",
    scale_dtype: torch.dtype = torch.float32,
    zero_key: str | None = None,
) -> Encoder:
    """Codes of 8 bits with a scale for ``rows`` × ``columns``; None for all of the axis."""

    def encode(name: str, weight: Tensor) -> Encoded:
        r, c = rows or weight.shape[0], columns or weight.shape[1]
        grid = (-(-weight.shape[0] // r), -(-weight.shape[1] // c))
        scale, zero = torch.empty(grid), torch.zeros(grid)
        codes, true = torch.empty(weight.shape, dtype=dtype), torch.empty_like(weight)
        largest = torch.finfo(dtype).max if dtype.is_floating_point else 127.0
        for i in range(grid[0]):
            for j in range(grid[1]):
                at = (slice(i * r, i * r + r), slice(j * c, j * c + c))
                block = weight[at]
                step = block.abs().max() / largest
                if scale_dtype == torch.float8_e8m0fnu:
                    step = torch.exp2(step.log2().ceil())
                scale[i, j] = step = step.to(scale_dtype).float()
                if zero_key is not None:
                    zero[i, j] = (3 * i + 5 * j) % 11 - 4 + (128 if dtype == torch.uint8 else 0)
                number = block / step + zero[i, j]
                if not dtype.is_floating_point:
                    number = number.round().clamp(torch.iinfo(dtype).min, torch.iinfo(dtype).max)
                codes[at] = number.to(dtype)
                true[at] = (codes[at].float() - zero[i, j]) * step
        view = {"keep": grid, "flat": (-1,), "scalar": (), "one": (1,)}[shape]
        tensors = {name: codes, stem(name) + key: scale.to(scale_dtype).reshape(view)}
        if zero_key is not None:
            tensors[stem(name) + zero_key] = zero.to(dtype).reshape(view)
        return tensors, true

    return encode


def pack_words(codes: np.ndarray, bits: int, *, gapless: bool) -> Tensor:
    """Pack rows of integers (n, m) along the first axis into words, lowest bits first."""
    per_word = 32 // bits
    count = -(-len(codes) * bits // 32) if gapless else -(-len(codes) // per_word)
    words = np.zeros((count, codes.shape[1]), dtype=np.uint64)
    for row, values in enumerate(codes.astype(np.uint64)):
        word, shift = divmod(row * bits, 32) if gapless else (row // per_word, 0)
        shift = shift if gapless else row % per_word * bits
        words[word] |= values << np.uint64(shift) & np.uint64(0xFFFFFFFF)
        if shift + bits > 32:
            words[word + 1] |= values >> np.uint64(32 - shift)
    return torch.from_numpy(words.astype(np.uint32).view(np.int32))


def _groups(
    weight: Tensor, group: int, bits: int, *, order: Tensor | None, symmetric: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Quantise [out, in] by groups of inputs: codes [in, out], scales, zeros [G, out], index."""
    inputs = weight.shape[1]
    index = torch.arange(inputs) // group
    if order is not None:
        index = index[order]
    count, top = int(index.max()) + 1, 2**bits - 1
    scales, zeros = torch.empty(count, len(weight)), torch.empty(count, len(weight))
    for g in range(count):
        part = weight[:, index == g]
        low, high = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
        if symmetric:
            high = torch.maximum(-low, high)
            low = -high
        scales[g] = ((high - low) / top).half().float()
        zeros[g] = 2 ** (bits - 1) if symmetric else (-low / scales[g]).round().clamp(1, top)
    codes = (weight.T / scales[index] + zeros[index]).round().clamp(0, top)
    return codes, scales, zeros, index


def gptq(
    bits: int = 4,
    group: int = 32,
    *,
    version: int = 1,
    act_order: bool = False,
    symmetric: bool = False,
    store_index: bool = True,
) -> Encoder:
    """GPTQ's ``qweight``, ``qzeros``, ``scales``, ``g_idx``, and AutoGPTQ's bias of zeros."""

    def encode(name: str, weight: Tensor) -> Encoded:
        order = None
        if act_order:
            order = torch.randperm(weight.shape[1], generator=torch.Generator().manual_seed(1))
        codes, scales, zeros, index = _groups(weight, group, bits, order=order, symmetric=symmetric)
        stored_zeros = (zeros - (1 if version == 1 else 0)).numpy()
        tensors = {
            "qweight": pack_words(codes.numpy(), bits, gapless=True),
            "qzeros": pack_words(stored_zeros.T, bits, gapless=True).T.contiguous(),
            "scales": scales.half(),
            "bias": torch.zeros(len(weight), dtype=torch.float16),
        }
        if store_index:
            tensors["g_idx"] = index.int()
        true = ((codes - zeros[index]) * scales[index]).T.contiguous()
        return {stem(name) + part: tensor for part, tensor in tensors.items()}, true

    return encode


def awq(group: int = 32, *, symmetric: bool = False) -> Encoder:
    """AutoAWQ's gemm version: half byte i of a word is output (0, 2, 4, 6, 1, 3, 5, 7)[i]."""

    def pack(codes: Tensor) -> Tensor:
        words = np.zeros((len(codes), codes.shape[1] // 8), dtype=np.uint32)
        for half, output in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
            words |= codes[:, output::8].numpy().astype(np.uint32) << np.uint32(4 * half)
        return torch.from_numpy(words.view(np.int32))

    def encode(name: str, weight: Tensor) -> Encoded:
        codes, scales, zeros, index = _groups(weight, group, 4, order=None, symmetric=symmetric)
        tensors = {"qweight": pack(codes), "qzeros": pack(zeros), "scales": scales.half()}
        true = ((codes - zeros[index]) * scales[index]).T.contiguous()
        return {stem(name) + part: tensor for part, tensor in tensors.items()}, true

    return encode


def packed(
    bits: int = 4, group: int | None = 32, *, zeros: str | None = None, index: str | None = None
) -> Encoder:
    """compressed-tensors' pack-quantized; ``zeros``: packed, int8; ``index``: used, unused."""

    def encode(name: str, weight: Tensor) -> Encoded:
        outputs, inputs = weight.shape
        order = None
        if index == "used":
            order = torch.randperm(inputs, generator=torch.Generator().manual_seed(2))
        codes, scales, zero, which = _groups(
            weight, group or inputs, bits, order=order, symmetric=zeros is None
        )
        half = 2 ** (bits - 1)
        tensors = {
            "weight_packed": pack_words(codes.numpy(), bits, gapless=False).T.contiguous(),
            "weight_scale": scales.T.bfloat16().contiguous(),
            "weight_shape": torch.tensor([outputs, inputs]),
        }
        scales = tensors["weight_scale"].float().T
        if zeros == "packed":
            tensors["weight_zero_point"] = pack_words(zero.T.numpy(), bits, gapless=False)
        elif zeros == "int8":
            tensors["weight_zero_point"] = (zero.T - half).to(torch.int8).contiguous()
        if index is not None:
            tensors["weight_g_idx"] = which.int() if index == "used" else torch.full_like(which, -1)
        true = ((codes - zero[which]) * scales[which]).T.contiguous()
        return {stem(name) + part: tensor for part, tensor in tensors.items()}, true

    return encode


def fp4(
    group: int,
    *,
    codes_key: str,
    scale_key: str = "weight_scale",
    scale_dtype: torch.dtype,
    code_dtype: torch.dtype = torch.uint8,
    factor: tuple[str, str] | None = None,
) -> Encoder:
    """Bytes of two e2m1 codes, low half first; ``factor``: key, and ``times`` or ``divided``."""

    def encode(name: str, weight: Tensor) -> Encoded:
        generator = torch.Generator().manual_seed(len(name))
        outputs, inputs = weight.shape
        codes = torch.randint(0, 16, (outputs, inputs), generator=generator)
        exponent = torch.randint(-6, -2, (outputs, inputs // group), generator=generator).float()
        step = torch.exp2(exponent)
        if scale_dtype == torch.uint8:
            stored = (exponent + 127).to(torch.uint8)
        else:
            stored = (step * 8 if factor else step).to(scale_dtype)
        tensors = {
            codes_key: (codes[:, 0::2] + 16 * codes[:, 1::2]).to(torch.uint8).view(code_dtype),
            scale_key: stored,
        }
        if factor is not None:
            tensors[factor[0]] = torch.tensor([8.0 if factor[1] == "divided" else 0.125])
        true = torch.tensor(_E2M1)[codes] * step.repeat_interleave(group, dim=1)
        return {stem(name) + part: tensor for part, tensor in tensors.items()}, true

    return encode


def normalfloat(block: int = 64, *, nested: bool = False, kind: str = "nf4") -> Encoder:
    """bitsandbytes' 4 bits over the flattened weight, high half first."""
    values = torch.tensor(_NF4 if kind == "nf4" else [value / 6 for value in _E2M1])

    def encode(name: str, weight: Tensor) -> Encoded:
        numbers = weight.flatten()
        blocks = -(-len(numbers) // block)
        largest = torch.stack([part.abs().max() for part in numbers.split(block)])
        state = {"quant_type": kind, "blocksize": block, "dtype": "float32"}
        table = values.clone()  # files hold no shared tensors
        tensors = {"quant_map": table, "absmax": largest}
        if nested:
            offset, size = float(largest.mean()), 4
            inner = torch.linspace(-1, 1, 256)
            outer = torch.stack([(p - offset).abs().max() for p in largest.split(size)]) + 1e-3
            spread = outer.repeat_interleave(size)[:blocks]
            codes = ((largest - offset) / spread)[:, None].sub(inner).abs().argmin(1)
            largest = inner[codes] * spread + offset
            tensors |= {"absmax": codes.to(torch.uint8), "nested_absmax": outer}
            tensors["nested_quant_map"] = inner
            state |= {"nested_blocksize": size, "nested_offset": offset, "nested_dtype": "float32"}
        spread = largest.repeat_interleave(block)[: len(numbers)]
        codes = (numbers / spread)[:, None].sub(table).abs().argmin(1)
        true = (table[codes] * spread).view_as(weight)
        padded = torch.cat([codes, codes.new_zeros(len(codes) % 2)])
        state["shape"] = list(weight.shape)
        text = json.dumps(state).encode()
        tensors[f"quant_state.bitsandbytes__{kind}"] = torch.tensor(list(text), dtype=torch.uint8)
        stored = {f"{name}.{part}": tensor for part, tensor in tensors.items()}
        return {name: (padded[0::2] * 16 + padded[1::2]).to(torch.uint8)[:, None], **stored}, true

    return encode


def llm_int8(name: str, weight: Tensor) -> Encoded:
    """bitsandbytes' LLM.int8: rows in int8 and each row's largest value."""
    largest = weight.abs().amax(1)
    codes = (weight / largest[:, None] * 127).round().to(torch.int8)
    tensors = {name: codes, stem(name) + "SCB": largest}
    tensors[stem(name) + "weight_format"] = torch.tensor(0, dtype=torch.uint8)
    return tensors, codes.float() * (largest / 127)[:, None]
