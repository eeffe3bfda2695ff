"""Peak memory of splitting a checkpoint and of loading its backbone, against the whole model.

    python -m benchmarks.models.prepare_memory [--layers 6]

Makes a random Mixtral checkpoint in a temporary folder. Each measurement runs in a separate
process; the memory of the imports is measured first and subtracted (Linux: VmHWM after a reset).
Mapped file pages count, and every loaded parameter is read once, so that all pages are resident.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

MB = 1e6

MAKE = """
import sys, torch
from transformers import MixtralConfig, MixtralForCausalLM
torch.manual_seed(0)
config = MixtralConfig(
    vocab_size=32000, hidden_size=512, intermediate_size=1792, num_hidden_layers=int(sys.argv[2]),
    num_attention_heads=8, num_key_value_heads=2, num_local_experts=8, num_experts_per_tok=2)
MixtralForCausalLM(config).save_pretrained(sys.argv[1])
"""

MEASURE = """
import json, sys
from pathlib import Path
import numpy, onnx, onnxruntime, torch, transformers
from transformers import MixtralForCausalLM
from siftmoe.models.bundle import backbone as bundle_backbone
from siftmoe.models.checkpoint import reader as checkpoint
from siftmoe.models.bundle import export
from siftmoe.models.bundle import parity as export_parity
from siftmoe.models.bundle.reader import Bundle
from siftmoe.models.bundle.writer import prepare_bundle

def memory(field):
    status = Path("/proc/self/status").read_text()
    return int(status.split(field + ":")[1].split()[0]) * 1024

what, model, bundle = sys.argv[1:]
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
if what == "prepare":
    kept = prepare_bundle(model, bundle)
elif what == "backbone":
    kept = Bundle.open(bundle).load_backbone()
else:
    kept = MixtralForCausalLM.from_pretrained(model, dtype=torch.float32)
if what != "prepare":  # tensors are mapped files until they are touched
    total = sum(float(p.sum()) for p in kept.parameters() if not p.is_meta)
print(json.dumps({"before": before, "peak": memory("VmHWM"), "after": memory("VmRSS")}))
"""

ROWS = {
    "whole": "from_pretrained, the whole model",
    "prepare": "siftmoe prepare",
    "backbone": "load_backbone",
}


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layers", type=int, default=6, help="layers of 8 experts of 11 MB")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model, bundle = Path(folder) / "model", Path(folder) / "bundle"
        run(MAKE, str(model), str(args.layers))
        results = {}
        for what in ROWS:
            output = run(MEASURE, what, str(model), str(bundle))
            results[what] = json.loads(output.splitlines()[-1])
        sizes = {
            "checkpoint": size(model),
            "backbone": size(bundle / "backbone"),
            "one expert": (bundle / "experts/layer_000_expert_000.onnx").stat().st_size,
        }
    print(f"$ python -m benchmarks.models.prepare_memory --layers {args.layers}")
    print(", ".join(f"{name} {count / MB:.0f} MB" for name, count in sizes.items()))
    print()
    print("| | peak above imports, MB | kept after, MB | of the checkpoint |")
    print("|---|---|---|---|")
    for what, title in ROWS.items():
        peak = results[what]["peak"] - results[what]["before"]
        kept = results[what]["after"] - results[what]["before"]
        share = 100 * peak / sizes["checkpoint"]
        print(f"| {title} | {peak / MB:.0f} | {kept / MB:.0f} | {share:.0f}% |")


if __name__ == "__main__":
    main()
