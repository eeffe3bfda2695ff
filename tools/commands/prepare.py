"""Splits a Hugging Face mixture-of-experts checkpoint into a backbone and ONNX experts.

The checkpoint is read expert by expert, so it may be larger than memory. Each exported expert is
compared with torch. An interrupted run is resumed; a finished bundle is only checked. Then the
similarity of the experts is measured and added to the bundle, which policies need that replace or
skip experts: on the calibration text that ships with siftmoe, or on that of --calibration.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from siftmoe.models.bundle.reader import Bundle
    from siftmoe.models.bundle.writer import Progress
    from siftmoe.models.profiling.measure import ProfileOptions, ProfileProgress
    from siftmoe.models.profiling.text import CalibrationText

    AnyProgress = Progress | ProfileProgress

SUMMARY = "split a checkpoint into a backbone and ONNX experts"

_STAGES = {
    "hash": "hashing the checkpoint",
    "verify": "checking the bundle",
    "backbone": "writing the backbone",
    "experts": "exporting experts",
    "similarity": "profile: similarity by layer",
    "sensitivity": "profile: sensitivity",
    "response": "profile: response",
    "amplification": "profile: amplification",
}
_BYTE_STAGES = ("hash", "verify", "backbone")


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
    _configure_profile(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.epilog = "example: siftmoe prepare Mixtral-8x7B --out mixtral.bundle --dtype float16"


def _configure_profile(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("profile").add_argument
    add(
        "--calibration",
        metavar="TEXT",
        help="text file to measure the experts on, or none (default: the text that ships with "
        "siftmoe, if the bundle has no profile yet)",
    )
    add(
        "--calibration-tokens",
        type=int,
        default=8192,
        metavar="N",
        help="tokens of it at most (default: %(default)s)",
    )
    add(
        "--widths",
        type=_widths,
        default="2,3,4,5,6,8",
        metavar="LIST",
        help="bits per entry that are measured in addition to 16, or none; each takes one more "
        "pass through all experts (%(default)s)",
    )
    add(
        "--rotation",
        choices=("hadamard", "none"),
        default="hadamard",
        help="of hidden states before they are quantised, when measured and on the wire "
        "(%(default)s)",
    )
    add("--seed", type=int, default=0, help="seed of the measurement (default: %(default)s)")
    add(
        "--expert-memory",
        type=float,
        default=4.0,
        metavar="GIB",
        help="memory for experts; a model that needs more is measured layer by layer, without "
        "sensitivity and amplification (default: %(default)g)",
    )
    add(
        "--replace-profile",
        action="store_true",
        help="measure again if the bundle has another profile",
    )


def _widths(text: str) -> tuple[int, ...]:
    """Parse widths separated by commas, or ``none``; their values are checked later."""
    return () if text == "none" else tuple(sorted({int(part) for part in text.split(",")}))


def run(args: argparse.Namespace) -> int:
    """Prepare the bundle and print what it holds."""
    from siftmoe.models.bundle.writer import prepare_bundle
    from siftmoe.models.profiling.bundle import add_profile
    from siftmoe.models.profiling.preflight import check_calibration

    text, options = _text(args), _options(args)
    if text is not None:
        check_calibration(args.model, text, options=options)
    stages: set[str] = set()
    with _progress_bar() as show:

        def on_progress(progress: AnyProgress) -> None:
            stages.add(progress.stage)
            show(progress)

        bundle = prepare_bundle(args.model, args.out, dtype=args.dtype, on_progress=on_progress)
        if text is not None:
            bundle = add_profile(
                bundle,
                text,
                options=options,
                replace=args.replace_profile,
                on_progress=on_progress,
            )
    facts = _facts(bundle, stages)
    print(json.dumps(facts) if args.json else _describe(facts))
    return 0


def _text(args: argparse.Namespace) -> CalibrationText | None:
    """Text to measure a profile on; None if none is asked for or the bundle keeps its profile."""
    from siftmoe.models.bundle.manifest import MANIFEST_NAME, Manifest
    from siftmoe.models.profiling.text import CalibrationText
    from siftmoe.models.tiny.files import data_path

    if args.calibration == "none":
        return None
    if args.calibration is not None:
        return CalibrationText.read(args.calibration)
    finished = (Path(args.out) / MANIFEST_NAME).is_file()
    if finished and not args.replace_profile and Manifest.load(args.out).profile_file() is not None:
        return None
    return CalibrationText.read(data_path("calibration"))


def _options(args: argparse.Namespace) -> ProfileOptions:
    from siftmoe.models.profiling.measure import ProfileOptions

    return ProfileOptions(
        max_tokens=args.calibration_tokens,
        seed=args.seed,
        expert_bytes=int(args.expert_memory * 2**30),
        widths=args.widths,
        rotation=args.rotation,
    )


def _facts(bundle: Bundle, stages: set[str]) -> dict[str, Any]:
    from siftmoe.models.checkpoint.tokenizer import has_tokenizer

    manifest = bundle.manifest
    sizes = {"experts": 0, "backbone": 0}
    for name, record in manifest.document.files.items():
        folder = name.partition("/")[0]
        if folder in sizes:
            sizes[folder] += record.num_bytes
    return {
        "bundle": str(bundle.root),
        "state": _state(stages),
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
        "profile": manifest.profile_file() is not None,
        "calibration": _calibration(bundle),
        "tokenizer": has_tokenizer(bundle.backbone),
    }


def _calibration(bundle: Bundle) -> str | None:
    """Text and tokens of the profile."""
    from siftmoe.models.similarity.file import read_profile

    if bundle.manifest.profile_file() is None:
        return None
    found = read_profile(bundle.manifest).calibration
    return f"{found.num_tokens} tokens of {found.text_name}"


def _state(stages: set[str]) -> str:
    if "experts" in stages:
        return "prepared"
    return "profile measured" if "similarity" in stages else "already complete"


def _describe(facts: dict[str, Any]) -> str:
    count = facts["num_layers"] * facts["num_experts"]
    lines = [
        f"{facts['bundle']}: {facts['state']}",
        f"  {facts['architecture']}, {facts['num_layers']} layers of {facts['num_experts']} "
        f"experts, {facts['top_k']} for a token, {facts['activation']}",
        f"  backbone {facts['backbone_bytes'] / 1e6:.3g} MB, {count} experts in {facts['dtype']} "
        f"{facts['expert_bytes'] / 1e6:.3g} MB",
        f"  model {facts['model_hash'][:12]}",
    ]
    if facts["profile"]:
        lines.append(f"  profile measured on {facts['calibration']}")
    else:
        lines.append("  no profile: policies that replace or skip experts need one; prepare again")
        lines.append("  without --calibration none to add it")
    if not facts["tokenizer"]:
        lines.append("  no tokenizer: prompts and tasks need one; put its files into the")
        lines.append("  checkpoint's folder and prepare again, which keeps the experts")
    return "\n".join(lines)


@contextmanager
def _progress_bar() -> Iterator[Callable[[AnyProgress], None]]:
    """Show a progress bar per stage on stderr if it is a terminal; otherwise nothing."""
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    from siftmoe.tools.terminal.console import stderr_console
    from siftmoe.tools.terminal.progress import field_column

    bars = Bars(
        field_column("description"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=stderr_console(),
        disable=not sys.stderr.isatty(),
    )
    tasks: dict[str, Any] = {}

    def show(progress: AnyProgress) -> None:
        unit, label = (1e6, " (MB)") if progress.stage in _BYTE_STAGES else (1, "")
        if progress.stage not in tasks:
            tasks[progress.stage] = bars.add_task(_STAGES[progress.stage] + label)
        bars.update(
            tasks[progress.stage],
            completed=round(progress.done / unit),
            total=round(progress.total / unit),
        )

    with bars:
        yield show
