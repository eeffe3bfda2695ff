"""Writes a trained state as the Hugging Face folder that ships with the package.

::

    python -m siftmoe.models.training.export upcycled --work build/tiny --out models/tiny/upcycled
    python -m siftmoe.models.training.export scratch  --work build/tiny --out models/tiny/scratch

``train.json`` beside the weights records the corpus, the recipe and the course of the training.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import transformers

from siftmoe.models.training.model import new_model
from siftmoe.models.training.train import BATCH, RECIPES, SAVE_EVERY, WINDOW, load_state, validate


def export(name: str, *, work: Path, out: Path) -> None:
    """Write weights in fp16, configuration and tokenizer of a trained model to ``out``."""
    _trained(name, work).eval().to(torch.float16).save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # save_pretrained makes it readable by its owner only
    for file in sorted((work / "tokens" / "tokenizer").iterdir()):
        shutil.copyfile(file, out / file.name)


def _trained(name: str, work: Path) -> transformers.MixtralForCausalLM:
    model = new_model(RECIPES[name].num_experts, seed=0)
    model.load_state_dict(load_state(work / name)["model"])
    return model


def training_record(name: str, *, work: Path) -> dict[str, object]:
    """Return recipe, corpus, versions and course of a training.

    Raises
    ------
    ValueError
        If the training has not reached its last step.
    """
    recipe = RECIPES[name]
    log = [json.loads(line) for line in (work / name / "log.jsonl").read_text().splitlines()]
    if log[-1]["step"] != recipe.steps:
        raise ValueError(f"{name} is at step {log[-1]['step']} of {recipe.steps}: train it on")
    corpus = json.loads((work / "corpus" / "corpus.json").read_text())
    course = [
        {key: line[key] for key in ("step", "tokens", "train_entropy")}
        for line in log
        if line["step"] % SAVE_EVERY == 0 or line["step"] == recipe.steps
    ]
    return {
        "recipe": asdict(recipe),
        "tokens_per_step": BATCH * WINDOW,
        "cpu_seconds": round(_cpu_seconds(log)),
        "corpus_sha256": {split: corpus[split]["sha256"] for split in ("train", "val", "test")},
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "val_entropy": round(_val_entropy(name, work), 4),
        "course": course,
    }


def _val_entropy(name: str, work: Path) -> float:
    model = _trained(name, work).eval()
    return validate(model, np.load(work / "tokens" / "val.npy"))


def _cpu_seconds(log: list[dict[str, float]]) -> float:
    """Sum the CPU times of the processes of a training."""
    clocks = [line["cpu_s"] for line in log]
    ends = [clock for clock, after in pairwise(clocks) if after < clock]
    return sum(ends) + clocks[-1]


def main() -> None:
    """Export one model from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    export(arguments.name, work=arguments.work, out=arguments.out)
    record = training_record(arguments.name, work=arguments.work)
    (arguments.out / "train.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
