"""Harm of weights in few bits: rise of perplexity over weights in float32.

    python -m benchmarks.models.weights [--items N]

Weights travel only for rows with several experts at one helper. One helper that hosts all experts
is the worst case, with two experts in every row; with four helpers a row has them now and then, and
with eight never. Weights are relative to the row's largest, which is applied at home. Vectors have
the bits of the table both ways; text and vectors are the same in every row, so the change is that
of the weights alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

from siftmoe.coordinator.dispatch import weights as sent
from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.models.tasks.evaluation import load_task
from siftmoe.tools.experiments.cells.emulation import Emulation
from siftmoe.tools.experiments.cells.records import Setting

MODELS = ("upcycled", "scratch")
HELPERS = (1, 4)
VECTORS = ("bits=16", "bits=4:downlink_bits=4")
BITS = (4, 8)
Rounding = Callable[[Any, int], Any]


def coarse(bits: int) -> Rounding:
    """Weights between -1 and 1 in so many bits, whatever the answer has."""
    most = np.float32((1 << (bits - 1)) - 1)
    return lambda weights, _: (np.rint(weights * most) / most).astype(np.float32)


def perplexity(emulation: Emulation, policy: str, helpers: int, task: Any) -> float:
    """Of the test text, every routed expert kept."""
    record = emulation.run(
        PolicySpec.parse(policy), Setting(num_helpers=helpers), task, seed=0, batch_size=8
    )
    return record.metrics["perplexity"][0]


def main() -> None:
    """Print a table of both shipped models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=16)
    items = parser.parse_args().items
    ways: dict[str, Rounding] = {
        "float32": lambda weights, _: weights,
        **{f"{bits} bits": coarse(bits) for bits in BITS},
        "as sent": sent.rounded,
    }
    print(f"| model | helpers | vectors | {' | '.join(ways)} |")
    print("|---|---:|---|" + "---:|" * len(ways))
    for model in MODELS:
        emulation = Emulation.open(model)
        task = load_task(
            "perplexity",
            tokenizer=emulation.session.tokenizer,
            limit=items,
            context=emulation.bundle.context_length,
        )
        for helpers in HELPERS:
            for vectors in VECTORS:
                found = []
                for rounding in ways.values():
                    sent.rounded = rounding
                    found.append(perplexity(emulation, f"topk:{vectors}", helpers, task))
                exact = found[0]
                rises = [f"{100.0 * (value / exact - 1.0):+.3f} %" for value in found[1:]]
                print(f"| {model} | {helpers} | {vectors} | {exact:.4f} | {' | '.join(rises)} |")


if __name__ == "__main__":
    main()
