"""Measures the shipped checkpoints: perplexity, multiple choice, similarity of experts.

::

    python -m siftmoe.models.training.evaluate --out models/tiny/results.json

runs the whole test sets on the CPU with the undivided Hugging Face models; ``--limit 100`` uses the
first hundred items of each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer, MixtralForCausalLM

from siftmoe.models.tasks.evaluation import load_task
from siftmoe.models.tasks.scores import TaskResult
from siftmoe.models.tasks.sequences import Batch
from siftmoe.models.tasks.task import GenerationTask
from siftmoe.models.tiny.files import CHECKPOINTS, checkpoint_dir, data_path

BATCH_SIZE = 16
SIMILARITY_CHARS = 20_000
SIMILARITY_WINDOW = 256


@torch.no_grad()
def token_scores(
    model: MixtralForCausalLM, batch: Batch
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the log-probability of every token, and whether it was the most likely one.

    Returns
    -------
    logprobs : (B, T) float64
        Natural; zero at t = 0.
    hits : (B, T) bool
    """
    input_ids = torch.from_numpy(batch.input_ids)
    mask = torch.from_numpy(batch.attention_mask)
    logits = model(input_ids=input_ids, attention_mask=mask).logits[:, :-1].float()
    targets = input_ids[:, 1:]
    chosen = logits.gather(2, targets[..., None])[..., 0] - logits.logsumexp(dim=-1)
    logprobs = np.zeros(batch.input_ids.shape)
    hits = np.zeros(batch.input_ids.shape, dtype=np.bool_)
    logprobs[:, 1:] = chosen.numpy()
    hits[:, 1:] = (logits.argmax(dim=-1) == targets).numpy()
    return logprobs, hits


def run_task(spec: str, model: MixtralForCausalLM, tokenizer: Any, limit: int | None) -> TaskResult:
    """Run a scored task with an undivided model."""
    task = load_task(spec, tokenizer=tokenizer, limit=limit)
    if isinstance(task, GenerationTask):
        raise TypeError(f"task {spec!r} asks for generated text")
    scorer = task.scorer()
    for batch in task.batches(BATCH_SIZE):
        scorer.add(batch, *token_scores(model, batch))
    return scorer.result()


@torch.no_grad()
def expert_cosines(model: MixtralForCausalLM, tokenizer: Any) -> list[float]:
    """Return for each layer the mean cosine between two experts' outputs for the same token.

    Every expert computes every token that reaches its layer in the first calibration documents; the
    mean is over tokens and pairs of experts.
    """
    text = data_path("calibration").read_text(encoding="utf-8")[:SIMILARITY_CHARS]
    tokens = torch.tensor(tokenizer.encode(text, add_special_tokens=False))
    rows = tokens[: len(tokens) // SIMILARITY_WINDOW * SIMILARITY_WINDOW]
    return [
        _mean_cosine(layer.mlp.experts, hidden)
        for layer, hidden in _layer_inputs(model, rows.view(-1, SIMILARITY_WINDOW))
    ]


def _layer_inputs(model: MixtralForCausalLM, input_ids: Tensor) -> Iterator[tuple[Any, Tensor]]:
    layers = list(model.model.layers)
    inputs: list[Tensor] = []
    hooks = [
        layer.mlp.register_forward_pre_hook(lambda _, args: inputs.append(args[0].flatten(0, 1)))
        for layer in layers
    ]
    model(input_ids=input_ids)
    for hook in hooks:
        hook.remove()
    return zip(layers, inputs, strict=True)


def _mean_cosine(experts: Any, hidden: Tensor) -> float:
    everyone = hidden.new_ones(len(hidden), 1)
    outputs = []
    for expert in range(experts.num_experts):
        index = torch.full((len(hidden), 1), expert)
        outputs.append(experts(hidden, index, everyone))
    directions = torch.nn.functional.normalize(torch.stack(outputs), dim=-1)  # [E, N, d]
    cosines = torch.einsum("end,fnd->ef", directions, directions) / len(hidden)
    E = len(cosines)
    return float((cosines.sum() - cosines.diagonal().sum()) / (E * (E - 1)))


def evaluate(name: str, limit: int | None) -> dict[str, object]:
    """Return all figures of one shipped checkpoint."""
    folder = checkpoint_dir(name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = MixtralForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    results = {spec: run_task(spec, model, tokenizer, limit) for spec in ("perplexity", "choice")}
    return {
        **{spec: asdict(result) for spec, result in results.items()},
        "expert_cosine_by_layer": expert_cosines(model, tokenizer),
    }


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(v) for key, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list) else value


def main() -> None:
    """Evaluate the shipped checkpoints from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--limit", type=int, help="take the first items of each test set")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures = {name: _rounded(evaluate(name, arguments.limit)) for name in CHECKPOINTS}
    text = json.dumps(figures, indent=1) + "\n"
    print(text, end="")
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
