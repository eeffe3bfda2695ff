"""Error of an expert layer's output due to each quantiser of its hidden states.

    python -m benchmarks.models.quantisers [--windows N]

Hidden states of validation text are quantised before the expert layers, all routed experts are
computed on them, and the error is the squared error over the squared output of the layer, the mean
over the layers. Both shipped models. Steps per channel come from the first half of the text; the
error is measured on the second. "rms" is the optimal step for Gaussian entries, "largest" the one
without clipping; a turned row is multiplied by the Hadamard matrix first. "As sent" is the choice
per row of `siftmoe.models.vectors.quantise`.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch

from siftmoe.models.profiling.experts import ExpertStore
from siftmoe.models.profiling.forward import ProfiledModel
from siftmoe.models.tasks.evaluation import load_task
from siftmoe.models.vectors.channels import (
    channel_steps,
    quantise_channels,
    reconstruct_channels,
)
from siftmoe.models.vectors.quantise import GAUSSIAN_STEP, WIDTHS, rotate, rotate_back, round_trip
from siftmoe.tools.bundles import open_model

MODELS = ("upcycled", "scratch")
WINDOW = 128
#: Optimal steps where the library takes the largest entry instead; J. Max, 1960.
STEPS = {**GAUSSIAN_STEP, 5: 0.1881, 6: 0.1041, 8: 0.0308}
Array = np.ndarray[Any, Any]


def per_row(rows: Array, width: int, *, by: str) -> Array:
    """Rows (n, d) with one step each, by one rule, in float32 and not packed."""
    half = 1 << (width - 1)
    if by == "rms":
        step = STEPS[width] * np.sqrt((rows**2).mean(axis=1, keepdims=True))
    else:
        step = np.abs(rows).max(axis=1, keepdims=True) / half
    codes = np.clip(np.floor(rows / step) + half, 0, 2 * half - 1)
    return (step * (codes - (2 * half - 1) / 2)).astype(np.float32)


def turned(rows: Array, width: int, *, by: str) -> Array:
    return rotate_back(per_row(rotate(rows, "hadamard"), width, by=by), "hadamard")


def per_channel(rows: Array, width: int, *, calibration: Array) -> Array:
    steps = channel_steps(calibration, width)
    return reconstruct_channels(quantise_channels(rows, steps, width), steps, width)


SCHEMES = {
    "channel, largest": lambda rows, width, known: per_channel(rows, width, calibration=known),
    "row, largest": lambda rows, width, _: per_row(rows, width, by="largest"),
    "row, rms": lambda rows, width, _: per_row(rows, width, by="rms"),
    "turned, largest": lambda rows, width, _: turned(rows, width, by="largest"),
    "turned, rms": lambda rows, width, _: turned(rows, width, by="rms"),
    "as sent": lambda rows, width, _: round_trip(rows, width, rotation="hadamard"),
}


def layer_inputs(model: ProfiledModel, store: ExpertStore, ids: torch.Tensor) -> dict[int, Any]:
    """For each layer its hidden states, routed experts and weights, of all tokens."""
    found: dict[int, list[tuple[Array, Array, Array]]] = {}

    def combine(layer: int, hidden: Any, experts: Any, weights: Any) -> Any:
        found.setdefault(layer, []).append((hidden.numpy(), experts.numpy(), weights.numpy()))
        return store.layer(layer).combine(hidden, experts, weights)

    model.function = combine
    with torch.no_grad():
        model.final_hidden(ids)
    return {
        layer: tuple(np.concatenate(column) for column in zip(*parts, strict=True))
        for layer, parts in found.items()
    }


def losses(name: str, *, windows: int) -> dict[str, dict[int, float]]:
    """Relative squared error of the layers' outputs by scheme and width, mean over layers."""
    bundle = open_model(name)
    model = ProfiledModel(bundle.load_backbone())
    store = ExpertStore(bundle, model.layers, max_bytes=1 << 30)
    task = load_task("perplexity", tokenizer=bundle.load_tokenizer(), split="val", limit=windows)
    tokens = np.concatenate([np.asarray(one.tokens) for one in task.sequences])
    ids = tokens[: len(tokens) // WINDOW * WINDOW].reshape(-1, WINDOW)
    inputs = layer_inputs(model, store, torch.from_numpy(ids.astype(np.int64)))
    found = {scheme: {width: [] for width in WIDTHS} for scheme in SCHEMES}
    for layer, (hidden, experts, weights) in inputs.items():
        half = len(hidden) // 2
        known, rows = hidden[:half], hidden[half:]
        rest = [torch.from_numpy(part[half:]) for part in (experts, weights)]

        def output(rows: Array, layer: int = layer, rest: Any = rest) -> Array:
            return store.layer(layer).combine(torch.from_numpy(rows), *rest).numpy()

        exact = output(rows)
        for scheme, apply in SCHEMES.items():
            for width in WIDTHS:
                lost = output(np.ascontiguousarray(apply(rows, width, known))) - exact
                found[scheme][width].append((lost**2).sum() / (exact**2).sum())
    return {
        scheme: {width: float(np.mean(values)) for width, values in by_width.items()}
        for scheme, by_width in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=64, help="of validation text (64)")
    args = parser.parse_args()
    print("Squared error over squared output of an expert layer, mean over layers.\n")
    print(f"| model | bits | {' | '.join(SCHEMES)} |")
    print("|---" * (2 + len(SCHEMES)) + "|")
    for name in MODELS:
        found = losses(name, windows=args.windows)
        for width in WIDTHS:
            cells = " | ".join(f"{found[scheme][width]:.2e}" for scheme in SCHEMES)
            print(f"| {name} | {width} | {cells} |")


if __name__ == "__main__":
    main()
