"""Split a Hugging Face mixture-of-experts checkpoint into a backbone and ONNX experts.

The checkpoint is read expert by expert, so it may be larger than memory. Each exported expert is
compared with torch. An interrupted run goes on where it stopped; a finished bundle is only checked.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from siftmoe.models.bundle import Bundle
    from siftmoe.models.bundle_writer import Progress

SUMMARY = "split a checkpoint into a backbone and ONNX experts"

_STAGES = {
    "hash": "hashing the checkpoint",
    "verify": "checking the bundle",
    "backbone": "writing the backbone",
    "experts": "exporting experts",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("model", metavar="MODEL_DIR", help="folder as written by save_pretrained")
    parser.add_argument("--out", required=True, metavar="BUNDLE", help="folder of the bundle")
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16"),
        default="float32",
        help="precision of the experts (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.epilog = "example: siftmoe prepare Mixtral-8x7B --out mixtral.bundle --dtype float16"


def run(args: argparse.Namespace) -> int:
    """Prepare the bundle and print what it holds."""
    from siftmoe.models.bundle_writer import prepare_bundle

    stages: set[str] = set()
    with _progress_bar() as show:

        def on_progress(progress: Progress) -> None:
            stages.add(progress.stage)
            show(progress)

        bundle = prepare_bundle(args.model, args.out, dtype=args.dtype, on_progress=on_progress)
    facts = _facts(bundle, new="experts" in stages)
    print(json.dumps(facts) if args.json else _describe(facts))
    return 0


def _facts(bundle: Bundle, *, new: bool) -> dict[str, Any]:
    manifest = bundle.manifest
    sizes = {"experts": 0, "backbone": 0}
    for name, record in manifest.document.files.items():
        folder = name.partition("/")[0]
        if folder in sizes:
            sizes[folder] += record.num_bytes
    return {
        "bundle": str(bundle.root),
        "state": "prepared" if new else "already complete",
        "architecture": manifest.document.source.architecture,
        "num_layers": manifest.shape.num_layers,
        "num_experts": manifest.shape.num_experts,
        "top_k": manifest.shape.top_k,
        "hidden_size": manifest.shape.hidden_size,
        "intermediate_size": manifest.shape.intermediate_size,
        "activation": manifest.shape.activation,
        "dtype": manifest.dtype,
        "backbone_bytes": sizes["backbone"],
        "expert_bytes": sizes["experts"],
        "model_hash": manifest.model_hash,
    }


def _describe(facts: dict[str, Any]) -> str:
    count = facts["num_layers"] * facts["num_experts"]
    return (
        f"{facts['bundle']}: {facts['state']}\n"
        f"  {facts['architecture']}, {facts['num_layers']} layers of {facts['num_experts']} "
        f"experts, {facts['top_k']} for a token, {facts['activation']}\n"
        f"  backbone {facts['backbone_bytes'] / 1e6:.3g} MB, {count} experts in {facts['dtype']} "
        f"{facts['expert_bytes'] / 1e6:.3g} MB\n"
        f"  model {facts['model_hash'][:12]}"
    )


@contextmanager
def _progress_bar() -> Iterator[Callable[[Progress], None]]:
    """Show a bar per stage on stderr where a person watches, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    tasks: dict[str, Any] = {}

    def show(progress: Progress) -> None:
        unit, label = (1, "") if progress.stage == "experts" else (1e6, " (MB)")
        if progress.stage not in tasks:
            tasks[progress.stage] = bars.add_task(_STAGES[progress.stage] + label)
        bars.update(
            tasks[progress.stage],
            completed=round(progress.done / unit),
            total=round(progress.total / unit),
        )

    with bars:
        yield show
