"""A tokenizer of one token per character, and a task scored by a function in place of a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from siftmoe.models.tasks.evaluation import load_task
from siftmoe.models.tasks.task import Task


class CharTokenizer:
    """One token per character; a newline before a space merges with it."""

    bos_token_id: int | None = 1
    eos_token_id: int | None = 2

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        tokens = [10 + ord(c) for c in text.replace("\n ", "\r")]
        return [1, *tokens] if add_special_tokens else tokens


TOKENIZER = CharTokenizer()


def tokens_of(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False)


def write_lines(path: Path, lines: list[object]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def task_of(spec: str, **options: object) -> Task:
    task = load_task(spec, tokenizer=TOKENIZER, **options)  # type: ignore[arg-type]
    assert isinstance(task, Task)
    return task


def run(task: Task, logprob, batch_size: int = 3, hit=lambda tokens, t: False):
    """Score a task with a model given as a function of (tokens, place)."""
    scorer = task.scorer()
    for batch in task.batches(batch_size):
        values = np.full(batch.input_ids.shape, np.nan)
        hits = np.ones(batch.input_ids.shape, dtype=bool)
        for b, t in zip(*np.nonzero(batch.target_mask), strict=True):
            tokens = batch.input_ids[b].tolist()
            values[b, t] = logprob(tokens, t)
            hits[b, t] = hit(tokens, t)
        scorer.add(batch, values, hits)
    return scorer.result()
