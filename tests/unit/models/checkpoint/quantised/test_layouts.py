"""Every quantised layout is read as what its codes stand for, in experts and in the backbone."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from families import build_model
from layouts import edit_config, save_mxfp4
from safetensors.torch import load_file, save_file
from weight_encoders import awq, fp4, gptq, llm_int8, normalfloat, packed, scaled

from siftmoe.models.bundle.writer import prepare_bundle
from siftmoe.models.checkpoint.headers import TensorHeader
from siftmoe.models.checkpoint.quantised.hints import Hints
from siftmoe.models.checkpoint.quantised.scaled import recognise_scaled
from siftmoe.models.checkpoint.quantised.weight import Stored
from siftmoe.models.checkpoint.reader import Checkpoint

E8M0 = torch.float8_e8m0fnu
E4M3 = torch.float8_e4m3fn
WIDE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 1,
    "num_local_experts": 2,
}

LAYOUTS = {
    "fp8 per tensor": scaled(None, None, shape="scalar"),
    "fp8 per tensor, one entry": scaled(None, None, shape="one", scale_dtype=torch.bfloat16),
    "fp8 e5m2 per tensor": scaled(None, None, shape="one", dtype=torch.float8_e5m2),
    "fp8 per channel [out]": scaled(1, None, shape="flat"),
    "fp8 per channel [out, 1]": scaled(1, None, scale_dtype=torch.bfloat16),
    "fp8 blocks of 128 with edges": scaled(128, 128, key="weight_scale_inv"),
    "fp8 blocks of 32": scaled(32, 32, key="weight_scale_inv"),
    "fp8 blocks, scales e8m0": scaled(32, 32, key="scale", scale_dtype=E8M0),
    "fp8 blocks, compressed-tensors' key": scaled(32, 32),
    "fp8 groups": scaled(1, 32),
    "int8 per channel": scaled(1, None, dtype=torch.int8, shape="flat"),
    "int8 per tensor": scaled(None, None, dtype=torch.int8, shape="scalar"),
    "int8 groups": scaled(1, 16, dtype=torch.int8, scale_dtype=torch.bfloat16),
    "int8 with zero points": scaled(1, None, dtype=torch.int8, zero_key="weight_zero_point"),
    "int8 groups with zero points": scaled(1, 32, dtype=torch.int8, zero_key="weight_zero_point"),
    "uint8 with zero points": scaled(1, None, dtype=torch.uint8, zero_key="weight_zero_point"),
    "LLM.int8": llm_int8,
    "GPTQ symmetric": gptq(symmetric=True),
    "GPTQ v2 symmetric": gptq(symmetric=True, version=2),
    "GPTQ 8 bits": gptq(8, symmetric=True),
    "GPTQ 3 bits, act order": gptq(3, symmetric=True, act_order=True),
    "GPTQ 2 bits": gptq(2, 16, symmetric=True),
    "GPTQ act order": gptq(act_order=True, symmetric=True),
    "GPTQ without index": gptq(store_index=False, symmetric=True),
    "GPTQ one group": gptq(group=1024, symmetric=True),
    "GPTQ asymmetric, no key": gptq(),
    "GPTQ v2 asymmetric, no key": gptq(version=2),
    "AWQ": awq(),
    "AWQ groups of 16": awq(16),
    "AWQ symmetric": awq(symmetric=True),
    "packed 4 bits": packed(),
    "packed 8 bits": packed(8),
    "packed per channel": packed(group=None),
    "packed asymmetric": packed(zeros="packed"),
    "packed asymmetric, zero points int8": packed(zeros="int8"),
    "packed act order": packed(index="used", zeros="packed"),
    "packed index not in use": packed(index="unused"),
    "packed 3 bits": packed(3, 16, zeros="packed"),
    "NVFP4 ModelOpt": fp4(
        16, codes_key="weight", scale_dtype=E4M3, factor=("weight_scale_2", "times")
    ),
    "NVFP4 compressed-tensors": fp4(
        16, codes_key="weight_packed", scale_dtype=E4M3, factor=("weight_global_scale", "divided")
    ),
    "MXFP4 compressed-tensors": fp4(32, codes_key="weight_packed", scale_dtype=torch.uint8),
    "MXFP4 bytes": fp4(32, codes_key="weight", scale_dtype=torch.uint8),
    "MXFP4 int8, e8m0": fp4(
        32, codes_key="weight", scale_key="scale", scale_dtype=E8M0, code_dtype=torch.int8
    ),
    "nf4": normalfloat(),
    "nf4 doubly quantised": normalfloat(nested=True),
    "nf4 blocks beyond rows": normalfloat(256),
    "fp4 of bitsandbytes": normalfloat(kind="fp4"),
}


def save(folder, encode, *, family="mixtral", where=lambda name: "layers" in name, **options):
    """Write a family with its linear weights encoded, and beside it the same with true weights."""
    model = build_model(family, **(options or WIDE))
    for path in (folder / "m", folder / "true"):
        model.save_pretrained(path)
    stored, true = {}, {}
    for name, weight in load_file(folder / "m/model.safetensors").items():
        if weight.ndim == 2 and name.endswith(".weight") and where(name) and ".gate." not in name:
            tensors, true[name] = encode(name, weight)
            stored |= tensors
        else:
            stored[name] = true[name] = weight
    for path, tensors in (("m", stored), ("true", true)):
        save_file(tensors, folder / path / "model.safetensors", metadata={"format": "pt"})
    return folder / "m", folder / "true"


def weights(folder):
    """All parameters of a checkpoint, experts one by one."""
    checkpoint = Checkpoint.open(folder)
    found = dict(checkpoint.backbone_tensors())
    for layer in range(checkpoint.shape.num_layers):
        for expert in range(checkpoint.shape.num_experts):
            fused = checkpoint.read_fused(layer, expert)
            found |= {f"{layer} {expert} {name}": tensor for name, tensor in fused.items()}
    return found


def assert_same(folder, true):
    read, wanted = weights(folder), weights(true)
    assert read.keys() == wanted.keys()
    for name, weight in read.items():
        torch.testing.assert_close(weight.float(), wanted[name].float(), rtol=2e-7, atol=1e-9)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_read_as_what_its_codes_stand_for(tmp_path, layout):
    assert_same(*save(tmp_path, LAYOUTS[layout]))


@pytest.mark.parametrize(
    ("encode", "name", "content"),
    [
        (gptq(group=24), "config.json", {"checkpoint_format": "gptq", "quant_method": "gptq"}),
        (gptq(version=2), "quantize_config.json", {"checkpoint_format": "gptq_v2"}),
        (awq(32), "config.json", {"quant_method": "awq", "version": "gemm"}),
    ],
)
def test_a_configuration_decides_what_tensors_leave_open(tmp_path, encode, name, content):
    folder, true = save(tmp_path, encode)
    if name == "config.json":
        edit_config(folder, quantization_config=content)
    else:
        (folder / name).write_text(json.dumps(content))
    assert_same(folder, true)


def test_blocks_that_a_configuration_names_are_taken_where_they_fit(tmp_path):
    encode = scaled(40, 40, key="weight_scale_inv")  # 64 and 96 in blocks of 40
    folder, true = save(tmp_path, encode)
    edit_config(folder, quantization_config={"weight_block_size": [40, 40]})
    assert_same(folder, true)


def test_edges_of_blocks_that_do_not_divide(tmp_path):
    encode = scaled(128, 128, key="weight_scale_inv")
    options = {"hidden_size": 160, "intermediate_size": 200}
    assert_same(*save(tmp_path, encode, **options))


def test_experts_quantised_in_a_plain_backbone_and_the_other_way_round(tmp_path):
    only = {"experts": lambda name: ".experts." in name, "dense": lambda name: "attn" in name}
    for title, where in only.items():
        assert_same(*save(tmp_path / title, gptq(symmetric=True), where=where))


def test_embeddings_may_be_quantised(tmp_path):
    encode = scaled(1, None, dtype=torch.int8)
    assert_same(*save(tmp_path, encode, where=lambda name: True))


def test_a_sharded_checkpoint_with_a_weight_and_its_scale_in_two_files(tmp_path):
    folder, true = save(tmp_path, scaled(1, None))
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards = [{}, {}]
    for number, (name, tensor) in enumerate(sorted(tensors.items())):
        shards[number % 2][name] = tensor
    for number, shard in enumerate(shards):
        save_file(shard, folder / f"{number}.safetensors", metadata={"format": "pt"})
    weight_map = {name: f"{n}.safetensors" for n, shard in enumerate(shards) for name in shard}
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_same(folder, true)


def test_what_describes_activations_and_caches_is_harmless(tmp_path, caplog):
    folder, true = save(tmp_path, scaled(None, None, shape="scalar"))
    path = folder / "model.safetensors"
    tensors, more = load_file(path), {}
    for name in [name for name in tensors if name.endswith("weight_scale")]:
        more[name.replace("weight_scale", "input_scale")] = torch.tensor(2.0)
    for layer in range(1):
        attention = f"model.layers.{layer}.self_attn"
        for part in ("k_scale", "v_scale", "k_proj.k_scale", "v_proj.output_scale", "q_scale"):
            more[f"{attention}.{part}"] = torch.tensor([0.5])
    save_file({**tensors, **more}, path, metadata={"format": "pt"})
    assert_same(folder, true)
    assert "not part of the model" not in caplog.text


FUSED = {
    "per expert [E]": lambda w: w.abs().amax((1, 2)),
    "per expert [E, 1, 1]": lambda w: w.abs().amax((1, 2), keepdim=True),
    "per output [E, out]": lambda w: w.abs().amax(2),
    "per output [E, out, 1]": lambda w: w.abs().amax(2, keepdim=True),
    "per input [E, 1, in]": lambda w: w.abs().amax(1, keepdim=True),
    "one": lambda w: w.abs().max(),
}


@pytest.mark.parametrize("key", ["_scale", "_scale_inv", "_weight_scale"])
@pytest.mark.parametrize("form", FUSED)
def test_fused_experts_with_a_scale(tmp_path, form, key):
    weight = torch.randn(3, 10, 6, generator=torch.Generator().manual_seed(0))
    scale = FUSED[form](weight) / 448
    spread = scale
    while 0 < spread.ndim < 3:
        spread = spread[..., None]
    codes = (weight / spread).to(E4M3)
    tensors = {"x.gate_up_proj": codes, f"x.gate_up_proj{key}": scale}

    def read(name, expert=None):
        return tensors[name] if expert is None else tensors[name][expert]

    names = {E4M3: "F8_E4M3", torch.float32: "F32"}
    headers = {n: TensorHeader(names[t.dtype], tuple(t.shape)) for n, t in tensors.items()}
    found = recognise_scaled("x.gate_up_proj", Stored(headers=headers, hints=Hints(), read=read))
    true = codes.float() * spread
    assert torch.equal(found.decode(read), true)
    assert torch.equal(found.decode(read, 2), true[2:])


def test_mxfp4_of_gpt_oss_with_the_biases_of_its_experts(tmp_path):
    tensors = save_mxfp4(tmp_path / "m")
    shutil.copytree(tmp_path / "m", tmp_path / "true")
    save_file(tensors, tmp_path / "true/model.safetensors", metadata={"format": "pt"})
    assert any(name.endswith("gate_up_proj_bias") for name in tensors)
    assert_same(tmp_path / "m", tmp_path / "true")


def test_a_fused_weight_of_gpt_oss_in_int8_by_its_outputs(tmp_path):
    model = build_model("gpt_oss")
    for path in (tmp_path / "m", tmp_path / "true"):
        model.save_pretrained(path)
    stored, true = {}, {}
    for name, weight in load_file(tmp_path / "m/model.safetensors").items():
        stored[name] = true[name] = weight
        if name.endswith(("gate_up_proj", "down_proj")):
            scale = weight.abs().amax(1) / 127  # [E, in, out] -> [E, out]
            stored[name] = (weight / scale[:, None]).round().to(torch.int8)
            stored[f"{name}_scale"] = scale
            true[name] = stored[name].float() * scale[:, None]
    for path, tensors in (("m", stored), ("true", true)):
        save_file(tensors, tmp_path / path / "model.safetensors", metadata={"format": "pt"})
    assert_same(tmp_path / "m", tmp_path / "true")


@pytest.mark.parametrize("encode", [gptq(), scaled(128, 128, key="weight_scale_inv")])
def test_a_bundle_of_a_quantised_checkpoint_is_that_of_its_true_weights(tmp_path, encode):
    folder, true = save(tmp_path, encode)
    edit_config(folder, quantization_config={"quant_method": "any"}, compression_config={"x": 1})
    (folder / "quantize_config.json").write_text('{"bits": 4}')
    bundle = prepare_bundle(folder, tmp_path / "b")
    wanted = prepare_bundle(true, tmp_path / "w")
    names = [name for name in bundle.manifest.document.files if name.startswith("experts/")]
    files, plain = bundle.manifest.document.files, wanted.manifest.document.files
    assert all(files[name] == plain[name] for name in names)
    for one in (bundle, wanted):
        assert "quantization" not in (one.backbone / "config.json").read_text()
    assert not (bundle.backbone / "quantize_config.json").exists()
    a, b = (load_file(one.backbone / "model.safetensors") for one in (bundle, wanted))
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name])
