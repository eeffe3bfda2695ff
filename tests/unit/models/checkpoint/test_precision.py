"""Quantised checkpoints are judged by their tensors; unknown forms are refused by name."""

from __future__ import annotations

import shutil

import pytest
import torch
from families import build_model, save_checkpoint
from layouts import FP8_KEY, edit_config, save_fp8, save_int8, save_mxfp4
from safetensors.torch import load_file, save_file

from siftmoe.models.bundle.writer import prepare_bundle
from siftmoe.models.checkpoint.reader import Checkpoint
from siftmoe.models.errors import CheckpointMismatch, UnsupportedPrecision


def rewrite(folder, change):
    """Replace the tensors of a checkpoint's file by ``change`` of them."""
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})
    return folder


def weights(checkpoint):
    """All parameters of a checkpoint, experts one by one."""
    found = dict(checkpoint.backbone_tensors())
    for layer in range(checkpoint.shape.num_layers):
        for expert in range(checkpoint.shape.num_experts):
            fused = checkpoint.read_fused(layer, expert)
            found |= {f"{layer} {expert} {name}": tensor for name, tensor in fused.items()}
    return found


@pytest.mark.parametrize(
    ("save", "lost", "message"),
    [
        (save_fp8, "down_proj.weight_scale_inv", r"down_proj.weight' \(F8_E4M3\)"),
        (save_mxfp4, "down_proj_scales", r"2 tensors .*down_proj_blocks' \(U8\)"),
        (save_int8, "w1.weight_scale", r"w1.weight' \(I8\).*Take the model's release"),
    ],
)
def test_quantised_weights_without_their_scales_are_refused(tmp_path, save, lost, message):
    save(tmp_path / "m")
    rewrite(tmp_path / "m", lambda found: {n: t for n, t in found.items() if not n.endswith(lost)})
    stages = []
    with pytest.raises(UnsupportedPrecision, match=rf"(?s)is quantised in a form .*{message}"):
        prepare_bundle(tmp_path / "m", tmp_path / "b", on_progress=stages.append)
    assert not stages  # not even hashed, which takes long for a large one
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("save", [save_mxfp4, save_fp8, save_int8])
def test_a_quantised_checkpoint_is_read_with_or_without_its_key(tmp_path, save):
    true = save(tmp_path / "m")
    shutil.copytree(tmp_path / "m", tmp_path / "true")
    save_file(true, tmp_path / "true/model.safetensors", metadata={"format": "pt"})
    wanted = weights(Checkpoint.open(tmp_path / "true"))
    for _ in range(2):
        read = weights(Checkpoint.open(tmp_path / "m"))
        assert read.keys() == wanted.keys()
        for name, weight in read.items():
            assert torch.equal(weight.float(), wanted[name].float()), name
        edit_config(tmp_path / "m", quantization_config=None)


def test_a_bias_of_a_quantised_layer_that_the_model_lacks_is_refused_unless_zero(tmp_path):
    save_int8(tmp_path)
    name = "model.layers.0.block_sparse_moe.experts.0.w1.bias"
    rewrite(tmp_path, lambda tensors: {**tensors, name: torch.zeros(24)})
    Checkpoint.open(tmp_path)
    rewrite(tmp_path, lambda tensors: {**tensors, name: torch.ones(24)})
    with pytest.raises(UnsupportedPrecision, match=r"w1.bias' \(F32\)"):
        Checkpoint.open(tmp_path)


def test_a_key_left_beside_plain_weights_does_not_count(tmp_path):
    model = build_model("deepseek_v3").to(torch.bfloat16)
    model.save_pretrained(tmp_path / "m")
    edit_config(tmp_path / "m", quantization_config=FP8_KEY)
    bundle = prepare_bundle(tmp_path / "m", tmp_path / "b")
    assert "quantization_config" not in (bundle.backbone / "config.json").read_text()
    bundle.verify()
    wanted = model.model.layers[2].mlp.experts.down_proj[5]
    read = Checkpoint.open(tmp_path / "m").read_fused(1, 5)["down_proj"][0]
    assert torch.equal(read, wanted)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.mlp.experts.0.down_proj.weight_scale",
        "model.layers.0.self_attn.q_proj.qweight",
        "model.layers.0.self_attn.q_proj.weight.absmax",
        "model.layers.0.mlp.experts.down_proj_blocks",
        "model.layers.0.self_attn.k_proj.input_amax",
    ],
)
def test_a_leftover_of_a_quantised_format_is_refused(tmp_path, name):
    save_checkpoint("olmoe", tmp_path)
    rewrite(tmp_path, lambda tensors: {**tensors, name: torch.ones(2)})
    with pytest.raises(UnsupportedPrecision, match=rf"1 tensors such as '{name}' \(F32\)"):
        Checkpoint.open(tmp_path)


def test_another_leftover_is_told_and_left_out(tmp_path, caplog):
    save_checkpoint("olmoe", tmp_path)
    rewrite(tmp_path, lambda tensors: {**tensors, "model.vision.weight": torch.ones(2)})
    Checkpoint.open(tmp_path)
    assert "1 tensors are not part of the model: model.vision.weight" in caplog.text


def test_weights_of_another_shape_than_configured_are_refused(tmp_path):
    save_checkpoint("qwen3_moe", tmp_path)
    edit_config(tmp_path, moe_intermediate_size=16)
    message = r"down_proj' has shape \[4, 16, 12\] .*configuration asks for \[4, 16, 16\]"
    with pytest.raises(CheckpointMismatch, match=message):
        Checkpoint.open(tmp_path)
