from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from families import FAMILIES, build_model, save_checkpoint
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from siftmoe.models.checkpoint.experts import identify_activation
from siftmoe.models.checkpoint.reader import Checkpoint, find_moe_layers
from siftmoe.models.errors import CheckpointMismatch, UnsupportedArchitecture


@pytest.fixture(params=list(FAMILIES))
def family(request):
    return request.param


def fused_in_model(model, layer, expert):
    """One expert's parameters as the loaded model holds them."""
    if layer.adapter is not None:
        module = model.get_submodule(f"{layer.name}.expert_{expert}")
        return dict(module.named_parameters())
    module = model.get_submodule(layer.name)
    return {name: p[expert : expert + 1] for name, p in module.named_parameters()}


def test_shape_and_layers_are_found(family, family_checkpoint):
    expected = FAMILIES[family]
    checkpoint = Checkpoint.open(family_checkpoint(family))
    shape = checkpoint.shape
    assert (shape.num_layers, shape.num_experts, shape.top_k) == (
        expected.num_layers,
        expected.num_experts,
        expected.top_k,
    )
    assert shape.hidden_size == 16
    assert [layer.index for layer in checkpoint.layers] == list(range(expected.num_layers))


def test_every_parameter_is_read_as_transformers_loads_it(family, family_checkpoint):
    checkpoint = Checkpoint.open(family_checkpoint(family))
    model = type(checkpoint.model).from_pretrained(family_checkpoint(family))
    for layer in checkpoint.layers:
        for expert in range(checkpoint.shape.num_experts):
            read = checkpoint.read_fused(layer.index, expert)
            wanted = fused_in_model(model, layer, expert)
            assert read.keys() == wanted.keys()
            assert all(torch.equal(read[name], wanted[name]) for name in read)
    state = model.state_dict()
    backbone = dict(checkpoint.backbone_tensors())
    assert all(torch.equal(tensor, state[name]) for name, tensor in backbone.items())
    left = state.keys() - backbone.keys() - checkpoint.expert_parameters
    assert left == set(model.all_tied_weights_keys)


def test_no_parameter_of_the_open_checkpoint_is_in_memory(family, family_checkpoint):
    model = Checkpoint.open(family_checkpoint(family)).model
    assert all(parameter.is_meta for parameter in model.parameters())
    assert not any(buffer.is_meta for buffer in model.buffers())


def test_layers_of_a_loaded_model_are_those_of_the_checkpoint(family, family_checkpoint):
    names = [layer.name for layer in Checkpoint.open(family_checkpoint(family)).layers]
    assert [layer.name for layer in find_moe_layers(build_model(family))] == names


def test_dense_layers_do_not_count(family_checkpoint):
    layers = Checkpoint.open(family_checkpoint("qwen2_moe")).layers
    assert [layer.name for layer in layers] == [
        "model.layers.0.mlp.experts",
        "model.layers.2.mlp.experts",
    ]


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("qwen2_moe", "model.layers.0.mlp.shared_expert.up_proj.weight"),
        ("deepseek_v3", "model.layers.1.mlp.shared_experts.up_proj.weight"),
    ],
)
def test_shared_experts_belong_to_the_backbone(family, name, family_checkpoint):
    checkpoint = Checkpoint.open(family_checkpoint(family))
    assert name not in checkpoint.expert_parameters
    assert name in dict(checkpoint.backbone_tensors())


def test_an_interleaved_transposed_expert_is_taken_apart(family_checkpoint):
    checkpoint = Checkpoint.open(family_checkpoint("gpt_oss"))
    fused, plain = checkpoint.read_fused(0, 1), checkpoint.read_expert(0, 1)
    np.testing.assert_array_equal(plain.gate, fused["gate_up_proj"][0, :, 0::2].T)
    np.testing.assert_array_equal(plain.up_bias, fused["gate_up_proj_bias"][0, 1::2])
    assert checkpoint.activation.name == "swish(1.702), limit 7, shift 1"


def test_a_bfloat16_checkpoint_is_read_exactly(tmp_path):
    model = build_model("mixtral").to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    up = Checkpoint.open(tmp_path).read_expert(1, 3).up
    wanted = model.model.layers[1].mlp.experts.gate_up_proj[3, 24:].detach().float().numpy()
    np.testing.assert_array_equal(up, wanted)


def test_a_checkpoint_in_shards_is_read(tmp_path, family_checkpoint):
    build_model("olmoe").save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    whole = Checkpoint.open(family_checkpoint("olmoe")).read_expert(1, 5)
    np.testing.assert_array_equal(Checkpoint.open(tmp_path).read_expert(1, 5).down, whole.down)


def test_a_dense_model_is_refused_and_told_what_was_looked_for(tmp_path):
    config = LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    message = r"LlamaForCausalLM has no experts: looked for .*has_gate.*SwitchTransformersExperts"
    with pytest.raises(UnsupportedArchitecture, match=message):
        Checkpoint.open(tmp_path)


def test_an_unknown_activation_is_named(tmp_path):
    save_checkpoint("olmoe", tmp_path, hidden_act="mish")
    with pytest.raises(UnsupportedArchitecture, match=r"'MishActivation'.*it knows swish, gelu"):
        Checkpoint.open(tmp_path)


def test_experts_with_a_parameter_of_their_own_are_refused():
    model = build_model("olmoe")
    model.model.layers[1].mlp.experts.scale = nn.Parameter(torch.ones(6))
    with pytest.raises(UnsupportedArchitecture, match=r"layers.1.mlp.experts.*has the parameters "):
        find_moe_layers(model)


def test_a_clamped_silu_is_told_from_a_plain_one():
    model = build_model("olmoe")
    module = model.model.layers[0].mlp.experts
    layer = find_moe_layers(model)[0]
    assert identify_activation(layer).name == "silu"
    module.swiglu_limit = 3
    module._apply_gate = lambda pair: (
        module.act_fn(pair.chunk(2, -1)[0].clamp(max=3)) * pair.chunk(2, -1)[1].clamp(-3, 3)
    )
    assert identify_activation(layer).name == "silu, limit 3"


def copy_of(folder, target):
    shutil.copytree(folder, target)
    return target


def test_a_hub_name_is_refused_without_network():
    with pytest.raises(CheckpointMismatch, match=r"not a folder; siftmoe downloads nothing"):
        Checkpoint.open("mistralai/Mixtral-8x7B-v0.1")


def test_a_folder_without_configuration_is_refused(tmp_path, family_checkpoint):
    folder = copy_of(family_checkpoint("olmoe"), tmp_path / "m")
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointMismatch, match=r"has no config.json"):
        Checkpoint.open(folder)


def test_a_folder_without_safetensors_is_refused(tmp_path, family_checkpoint):
    folder = copy_of(family_checkpoint("olmoe"), tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointMismatch, match=r"neither model.safetensors nor .*saved again"):
        Checkpoint.open(folder)


def test_a_truncated_file_is_refused(tmp_path, family_checkpoint):
    folder = copy_of(family_checkpoint("olmoe"), tmp_path / "m")
    with (folder / "model.safetensors").open("r+b") as stream:
        stream.truncate(5_000)
    with pytest.raises(CheckpointMismatch, match="cannot be read"):
        Checkpoint.open(folder)


def test_a_missing_shard_is_named(tmp_path):
    build_model("olmoe").save_pretrained(tmp_path, max_shard_size="20KB")
    victim = min(tmp_path.glob("*.safetensors"))
    victim.unlink()
    with pytest.raises(CheckpointMismatch, match=rf"names '{victim.name}', which is not there"):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize("drop", ["model.layers.1.mlp.experts.5.up_proj.weight"])
def test_a_missing_expert_is_noticed(tmp_path, family_checkpoint, drop):
    folder = copy_of(family_checkpoint("olmoe"), tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    del tensors[drop]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointMismatch, match=r"has 5 tensors .*the configuration says 6"):
        Checkpoint.open(folder).read_fused(1, 0)


def test_an_unknown_type_is_named(tmp_path, family_checkpoint):
    folder = copy_of(family_checkpoint("olmoe"), tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "no_such"}))
    with pytest.raises(UnsupportedArchitecture, match="does not know the model in"):
        Checkpoint.open(folder)
