"""Small random checkpoints in the quantised layouts of released ones, with their true weights.

Names, precisions and configuration keys are those of the releases; see the docstring of each.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from families import build_model

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

BLOCK = 128
FP8_KEY = {
    "quant_method": "fp8",
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "weight_block_size": [BLOCK, BLOCK],
}
MXFP4_KEY = {
    "quant_method": "mxfp4",
    "modules_to_not_convert": [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
    ],
}
_FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def edit_config(folder: Path, **changes: Any) -> None:
    """Change keys of a folder's config.json; None removes one."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def save_fp8(folder: Path, *, key: bool = True) -> dict[str, Tensor]:
    """DeepSeek-V3: fp8 weights, an inverse scale for each block of 128 × 128."""
    import torch

    model = build_model("deepseek_v3", hidden_size=BLOCK, moe_intermediate_size=BLOCK)

    def quantise(name: str, weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        if weight.ndim != 2 or not name.endswith("proj.weight"):
            return {name: weight}, weight
        scale = torch.zeros(-(-weight.shape[0] // BLOCK), -(-weight.shape[1] // BLOCK))
        codes, true = torch.zeros_like(weight, dtype=torch.float8_e4m3fn), weight.clone()
        for i, row in enumerate(weight.split(BLOCK)):
            for j, block in enumerate(row.split(BLOCK, dim=1)):
                at = (slice(i * BLOCK, (i + 1) * BLOCK), slice(j * BLOCK, (j + 1) * BLOCK))
                scale[i, j] = block.abs().max() / 448
                codes[at] = (block / scale[i, j]).to(codes.dtype)
                true[at] = codes[at].float() * scale[i, j]
        return {name: codes, f"{name}_scale_inv": scale}, true

    return _save(folder, model, quantise, key=FP8_KEY if key else None)


def save_mxfp4(folder: Path) -> dict[str, Tensor]:
    """gpt-oss: experts in blocks of 32 codes of 4 bits, low nibble first, and e8m0 scales."""
    import torch

    model = build_model("gpt_oss", hidden_size=64, intermediate_size=64)
    generator = torch.Generator().manual_seed(0)
    values = torch.tensor([*_FP4, *(-value for value in _FP4)])

    def quantise(name: str, weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            return {name: weight.bfloat16()}, weight.bfloat16().float()
        experts, inner, outer = weight.shape
        shape = (experts, outer, inner // 32)
        blocks = torch.randint(0, 256, (*shape, 16), generator=generator, dtype=torch.uint8)
        scales = torch.randint(118, 124, shape, generator=generator, dtype=torch.uint8)
        pairs = torch.stack([values[(blocks & 15).long()], values[(blocks >> 4).long()]], -1)
        true = pairs.reshape(*shape, 32) * torch.exp2(scales.float() - 127)[..., None]
        true = true.reshape(experts, outer, inner).transpose(1, 2).contiguous()
        return {f"{name}_blocks": blocks, f"{name}_scales": scales}, true

    return _save(folder, model, quantise, key=MXFP4_KEY)


def save_int8(folder: Path) -> dict[str, Tensor]:
    """Experts in int8 with a scale per output channel, and no word of it in config.json."""
    import torch

    def quantise(name: str, weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        if ".experts." not in name:
            return {name: weight}, weight
        scale = weight.abs().amax(1, keepdim=True) / 127
        codes = (weight / scale).round().to(torch.int8)
        stored = {name: codes, name.replace(".weight", ".weight_scale"): scale}
        return stored, codes.float() * scale

    return _save(folder, build_model("mixtral"), quantise, key=None)


def _save(
    folder: Path, model: Any, quantise: Any, *, key: dict[str, Any] | None
) -> dict[str, Tensor]:
    """Write a model quantised and return its true weights by their names on disk."""
    from safetensors.torch import load_file, save_file

    model.save_pretrained(folder)
    file = folder / "model.safetensors"
    stored: dict[str, Tensor] = {}
    true: dict[str, Tensor] = {}
    for name, weight in load_file(file).items():
        tensors, true[name] = quantise(name, weight)
        stored.update(tensors)
    save_file(stored, file, metadata={"format": "pt"})
    edit_config(folder, quantization_config=key)
    return true
