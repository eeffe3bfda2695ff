"""Write a trained state as the Hugging Face folder that ships with the package.

::

    python -m siftmoe.models.tiny.export upcycled --work build/tiny --out models/tiny/upcycled
    python -m siftmoe.models.tiny.export scratch  --work build/tiny --out models/tiny/scratch
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from siftmoe.models.tiny.model import new_model
from siftmoe.models.tiny.train import RECIPES, load_state


def export(name: str, *, work: Path, out: Path) -> None:
    """Write weights in fp16, configuration and tokenizer of a trained model to ``out``."""
    model = new_model(RECIPES[name].num_experts, seed=0)
    model.load_state_dict(load_state(work / name)["model"])
    model.eval().to(torch.float16).save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # it is written readable by its owner alone
    for file in sorted((work / "tokens" / "tokenizer").iterdir()):
        shutil.copyfile(file, out / file.name)


def main() -> None:
    """Export one model from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    export(arguments.name, work=arguments.work, out=arguments.out)


if __name__ == "__main__":
    main()
