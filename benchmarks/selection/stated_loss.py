"""In how many settings a stated loss holds on the test text: helpers, fadings, models.

    python -m benchmarks.selection.stated_loss              # all 30 cells; 30 minutes of one core
    python -m benchmarks.selection.stated_loss --cells 12   # a part of them, drawn at random

A cell is a model, a number of helpers and a fading. The price for the stated loss is set on
validation text (`siftmoe.tools.comparing.exchange_rate`); then the policy and Top-K run on test
text over links of other seeds, each seed with a part of the text of its own. The rise is paired by
document over all seeds. Links and energies are simulated; the rises are measured.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch

from siftmoe.models.tasks.paired import paired_rise
from siftmoe.tools.experiments.cells.knobs import found_in
from siftmoe.tools.experiments.cells.records import Cell, Setting
from siftmoe.tools.experiments.cells.worker import Job, Work, Worker

HELPERS = (1, 2, 4, 8, 16)
FADINGS = ("rayleigh", "rician", "none")
MODELS = ("upcycled", "scratch")
POLICY = "siftmoe:price={}:bits=auto"
#: Half a 95 % interval in standard errors.
HALF = 1.96


def measure(worker: Worker, cell: Cell, *, seeds: int) -> dict[str, Any]:
    """Set the price of a cell, and measure the rise on test text over links of other seeds."""
    began = time.process_time()
    calibration = replace_seed(cell, 0)
    outcome = worker.do(Job(cell=calibration, calibrate=True))
    found = found_in(outcome)
    if found is None:
        raise ValueError(f"cell {cell.key()}: no price was found")
    searched_s = time.process_time() - began
    documents, reference = [], []
    for seed in range(seeds):
        there = replace_seed(cell, seed)
        plain = Cell(model=cell.model, setting=cell.setting, curve="topk", template="topk")
        ours = worker.do(Job(cell=there, value=found.value, found=found))
        theirs = worker.do(Job.of(replace_seed(plain, seed)))
        documents += ours.records[0].documents
        reference += theirs.records[0].documents
    rise, error = paired_rise(documents, reference)
    return {
        "model": cell.model,
        "helpers": cell.setting.num_helpers,
        "fading": cell.setting.fading,
        "loss": cell.loss,
        "validation": found.loss,
        "validation_error": found.error,
        "validation_upper": found.upper,
        "trials": found.trials,
        "test": rise,
        "test_error": error,
        "searched_cpu_s": searched_s,
    }


def replace_seed(cell: Cell, seed: int) -> Cell:
    """Return a cell with another seed."""
    import msgspec

    return msgspec.structs.replace(cell, seed=seed)


def counted(rows: list[dict[str, Any]]) -> str:
    """Say in how many cells the loss was met."""
    met = {
        "mean at most the loss": sum(row["test"] <= row["loss"] for row in rows),
        "loss within one standard error, or not reached": sum(
            row["test"] - row["test_error"] <= row["loss"] for row in rows
        ),
        "loss within the 95 % interval, or not reached": sum(
            row["test"] - HALF * row["test_error"] <= row["loss"] for row in rows
        ),
    }
    return "\n".join(f"{words}: {count} of {len(rows)} cells" for words, count in met.items())


def main() -> int:
    """Measure the cells and print them as they come."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=30, help="cells to measure (30)")
    parser.add_argument("--loss", type=float, default=0.025, help="stated rise (0.025)")
    parser.add_argument("--seeds", type=int, default=3, help="links of the test (3)")
    parser.add_argument("--items", type=int, default=12, help="documents for each (12)")
    parser.add_argument("--validation", type=int, default=32, help="validation documents (32)")
    parser.add_argument("--out", type=Path, help="JSON lines of the cells")
    args = parser.parse_args()
    torch.set_num_threads(1)
    worker = Worker(work=Work(items=args.items, validation_items=args.validation))
    places = list(product(MODELS, HELPERS, FADINGS))
    random.Random(0).shuffle(places)  # an order, no secret
    rows = []
    for model, helpers, fading in places[: args.cells]:
        setting = Setting(num_helpers=helpers, fading=fading)
        cell = Cell(model=model, setting=setting, curve="ours", template=POLICY, loss=args.loss)
        rows.append(measure(worker, cell, seeds=args.seeds))
        line = json.dumps(rows[-1])
        print(line, flush=True)
        if args.out is not None:
            with args.out.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")
    print(counted(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
