"""Time and peak memory of preparing a checkpoint as gpt-oss-20b was released (MXFP4).

    python -m benchmarks.models.prepare_quantised [--layers 1] [--experts 8]

Writes a random checkpoint with the released names, precisions and widths (2880 × 2880 experts,
the vocabulary reduced to 4,096) into a temporary folder. One process prepares it, after a small
one that loads the libraries. Its peak is that of resident memory above what was resident before
(Linux: VmHWM after a reset); mapped file pages count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

WIDTH = 2880
SMALL = 64
MB = 1e6

MEASURE = """
import json, sys, time
from pathlib import Path
from siftmoe.models.bundle.writer import prepare_bundle

def memory(field):
    status = Path("/proc/self/status").read_text()
    return int(status.split(field + ":")[1].split()[0]) * 1024

small, large, out = sys.argv[1:]
prepare_bundle(small, out + "/small")
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
start = time.perf_counter()
prepare_bundle(large, out + "/large")
seconds = time.perf_counter() - start
print(json.dumps({"peak": memory("VmHWM") - before, "seconds": seconds}))
"""


def write_checkpoint(folder: Path, *, width: int, layers: int, experts: int) -> None:
    """Write a random gpt-oss checkpoint in MXFP4."""
    import torch
    from accelerate import init_empty_weights
    from safetensors.torch import save_file
    from transformers import GptOssConfig, GptOssForCausalLM

    config = GptOssConfig(
        vocab_size=4096,
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=layers,
        num_local_experts=experts,
        num_experts_per_tok=4,
        num_attention_heads=64 if width > SMALL else 4,
        num_key_value_heads=8 if width > SMALL else 4,
        head_dim=64,
        architectures=["GptOssForCausalLM"],
    )
    config.save_pretrained(folder)
    with init_empty_weights():
        model = GptOssForCausalLM(config)
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, empty in model.state_dict().items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            shape = (empty.shape[0], empty.shape[2], empty.shape[1] // 32)
            draw = {"generator": generator, "dtype": torch.uint8}
            tensors[f"{name}_blocks"] = torch.randint(0, 256, (*shape, 16), **draw)
            tensors[f"{name}_scales"] = torch.randint(116, 121, shape, **draw)
        else:
            tensors[name] = 0.02 * torch.randn(empty.shape, generator=generator).bfloat16()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def size(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--experts", type=int, default=8, help="of a layer; the release has 32")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_checkpoint(root / "small", width=SMALL, layers=1, experts=4)
        shape = {"layers": args.layers, "experts": args.experts}
        write_checkpoint(root / "large", width=WIDTH, **shape)
        paths = [str(root / name) for name in ("small", "large", "out")]
        answer = subprocess.run(
            [sys.executable, "-c", MEASURE, *paths], check=True, stdout=subprocess.PIPE, text=True
        )
        found = json.loads(answer.stdout.splitlines()[-1])
        one = (root / "out/large/experts/layer_000_expert_000.onnx").stat().st_size
        backbone, stored = size(root / "out/large/backbone"), size(root / "large")
    count = args.layers * args.experts
    print("| checkpoint, MB | backbone, MB | one expert in float32, MB | peak, MB | seconds |")
    print("|---:|---:|---:|---:|---:|")
    peak = found["peak"]
    print(
        f"| {stored / MB:.0f} | {backbone / MB:.0f} | {one / MB:.0f} | {peak / MB:.0f} "
        f"| {found['seconds']:.0f} |"
    )
    print()
    print(
        f"Peak: {peak / one:.2f} experts, {(peak - backbone) / one:.2f} without the backbone. "
        f"{found['seconds'] / count:.2f} s for each of {count} experts, backbone and hashes "
        f"included."
    )


if __name__ == "__main__":
    main()
