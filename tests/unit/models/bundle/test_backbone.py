"""The backbone of a bundle: the model without its experts."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from families import FAMILIES, build_model
from safetensors.torch import load_file

from siftmoe.models.bundle.backbone import write_backbone
from siftmoe.models.bundle.reader import Bundle
from siftmoe.models.checkpoint.reader import Checkpoint, find_moe_layers
from siftmoe.models.errors import BundleCorrupt


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_backbone_is_the_model_without_its_experts(family, family_bundle):
    bundle = Bundle.open(family_bundle(family))
    model, whole = bundle.load_backbone(), build_model(family)
    prefixes = tuple(f"{layer.name}." for layer in find_moe_layers(model))
    assert [layer.name for layer in find_moe_layers(model)] == bundle.manifest.layers
    for name, parameter in model.named_parameters():
        if name.startswith(prefixes):
            assert parameter.is_meta
        else:
            assert torch.equal(parameter, whole.get_parameter(name)), name
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, whole.get_buffer(name)), name
    for name, source in whole.all_tied_weights_keys.items():
        assert model.get_parameter(name) is model.get_parameter(source)
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("family", list(FAMILIES))
def test_no_expert_weight_is_in_the_backbone_folder(family, family_bundle, family_checkpoint):
    bundle = Bundle.open(family_bundle(family))
    names = {name for path in bundle.backbone.glob("*.safetensors") for name in load_file(path)}
    checkpoint = Checkpoint.open(family_checkpoint(family))
    assert names
    assert not names & checkpoint.expert_parameters
    size = sum(path.stat().st_size for path in bundle.backbone.glob("*.safetensors"))
    whole = sum(p.nbytes for p in build_model(family).parameters())
    experts = bundle.shape.expert_num_bytes("float32") * (
        bundle.shape.num_layers * bundle.shape.num_experts
    )
    assert size < whole - experts + 20_000  # the header


@pytest.mark.parametrize("family", list(FAMILIES))
def test_experts_put_back_give_the_logits_of_the_whole_model(family, family_bundle):
    """The backbone with the experts' own modules filled from the checkpoint is the model."""
    model, whole = Bundle.open(family_bundle(family)).load_backbone(), build_model(family)
    for name, parameter in whole.named_parameters():
        if model.get_parameter(name).is_meta:
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, parameter)
    tokens = {"input_ids": torch.arange(3, 13)[None]}
    if FAMILIES[family].encoder_decoder:
        tokens["decoder_input_ids"] = torch.tensor([[0, 4, 9]])
    with torch.no_grad():
        torch.testing.assert_close(model(**tokens).logits, whole(**tokens).logits)


def test_half_precision_backbone_keeps_what_transformers_keeps(family_bundle):
    model = Bundle.open(family_bundle("deepseek_v3")).load_backbone("bfloat16")
    assert model.dtype == model.config.dtype == torch.bfloat16
    kept = {n for n, b in model.named_buffers() if b.dtype == torch.float32}
    assert any(name.endswith("e_score_correction_bias") for name in kept)


def test_a_backbone_in_shards_loads(tmp_path, family_checkpoint):
    checkpoint = Checkpoint.open(family_checkpoint("mixtral"))
    names = [p.name for p in write_backbone(checkpoint, tmp_path, shard_bytes=3_000)]
    assert "model.safetensors.index.json" in names
    assert "model-00002-of-00005.safetensors" in names
    assert not any(name.endswith(".part") for name in names)
    assert json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    from siftmoe.models.bundle.backbone import load_backbone

    loaded, whole = load_backbone(tmp_path, "float32"), build_model("mixtral")
    assert torch.equal(loaded.lm_head.weight, whole.lm_head.weight)


def test_a_damaged_backbone_is_found_before_it_is_used(tmp_path, family_bundle):
    root = shutil.copytree(family_bundle("olmoe"), tmp_path / "b")
    path = root / "backbone/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleCorrupt, match=r"backbone/model.safetensors has sha256"):
        Bundle.open(root).load_backbone()
