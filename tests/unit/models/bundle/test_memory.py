"""Preparing a quantised checkpoint takes the memory of three experts and the backbone at most."""

from __future__ import annotations

import json
import subprocess
import sys

# Linux counts the peak of resident memory and resets it on request. Mapped files count too.
SCRIPT = """
import json, pathlib, sys
from siftmoe.models.bundle.writer import prepare_bundle

def memory(key):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))

small, large, out = sys.argv[1:]
prepare_bundle(small, out + "/small")  # loads every library
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
bundle = prepare_bundle(large, out + "/large")
backbone = sum(path.stat().st_size for path in bundle.backbone.iterdir())
print(json.dumps({"peak": memory("VmHWM") - before, "backbone": backbone}))
"""


def save_fp8(folder, *, width, inner):
    """Write a Mixtral with experts in fp8, all of them the same codes."""
    import torch
    from accelerate import init_empty_weights
    from families import FAMILIES
    from safetensors.torch import save_file
    from transformers import MixtralConfig, MixtralForCausalLM

    options = {**FAMILIES["mixtral"].options, "hidden_size": width, "intermediate_size": inner}
    config = MixtralConfig(**options, architectures=["MixtralForCausalLM"])
    config.num_hidden_layers, config.num_local_experts = 1, 2
    config.save_pretrained(folder)
    with init_empty_weights():
        model = MixtralForCausalLM(config)
    tensors = {
        name: torch.full(parameter.shape, 0.01)
        for name, parameter in model.state_dict().items()
        if ".experts." not in name and name != "lm_head.weight"
    }
    draw = torch.Generator().manual_seed(0)
    codes = torch.randn(width * inner, generator=draw).to(torch.float8_e4m3fn)
    for expert in range(config.num_local_experts):
        for part in ("w1", "w2", "w3"):
            name = f"model.layers.0.block_sparse_moe.experts.{expert}.{part}.weight"
            shape = (width, inner) if part == "w2" else (inner, width)
            tensors[name] = codes.reshape(shape).clone()
            tensors[f"{name}_scale_inv"] = torch.full(
                (-(-shape[0] // 128), -(-shape[1] // 128)), 1e-3
            )
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return 3 * width * inner * 4


def test_peak_memory_is_that_of_three_experts_and_the_backbone(tmp_path):
    save_fp8(tmp_path / "small", width=128, inner=128)
    expert = save_fp8(tmp_path / "large", width=512, inner=16384)
    folders = [str(tmp_path / name) for name in ("small", "large", "out")]
    command = [sys.executable, "-c", SCRIPT, *folders]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(answer.stdout.splitlines()[-1])
    assert found["peak"] <= 3 * expert + found["backbone"]
