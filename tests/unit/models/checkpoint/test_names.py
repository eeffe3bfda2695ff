"""Conversions whose steps depend on a tensor's shape are settled before one expert is read."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

from siftmoe.models.checkpoint.reader import Checkpoint

FUSED = ("experts.gate_up_proj", "experts.down_proj")


def build_qwen3_vl():
    text = {
        "vocab_size": 64,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 64,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 12,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]},
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": 16,
        "deepstack_visual_indexes": [0],
        "num_position_embeddings": 16,
    }
    torch.manual_seed(0)
    config = Qwen3VLMoeConfig(text_config=text, vision_config=vision)
    return Qwen3VLMoeForConditionalGeneration(config)


def quantised(tensors):
    """Store fused experts in int8 with a scale per expert and output, [E, 1, out]."""
    stored, true = dict(tensors), dict(tensors)
    for name, weight in tensors.items():
        if name.endswith(FUSED):
            scale = weight.abs().amax(1, keepdim=True) / 127
            stored[name] = (weight / scale).round().to(torch.int8)
            stored[f"{name}_scale"] = scale
            true[name] = stored[name].float() * scale
    return stored, true


@pytest.mark.parametrize("in_int8", [False, True])
@pytest.mark.parametrize("released", [False, True])
def test_qwen3_vl_is_read_transposed_as_released_or_as_saved(tmp_path, released, in_int8):
    model = build_qwen3_vl()
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    if released:  # [E, in, out]
        for name in [name for name in tensors if name.endswith(FUSED)]:
            tensors[name] = tensors[name].transpose(1, 2).contiguous()
    stored, true = quantised(tensors) if in_int8 else (tensors, tensors)
    save_file(stored, path, metadata={"format": "pt"})
    checkpoint = Checkpoint.open(tmp_path)
    for expert in range(4):
        fused = checkpoint.read_fused(0, expert)
        for name, read in fused.items():
            stem = f"model.language_model.layers.0.mlp.experts.{name}"
            wanted = true[stem][expert]
            assert torch.equal(read[0], wanted.T if released else wanted)
