"""Loads accuracy tasks: perplexity, multiple choice, one-line summaries. Needs no model, no torch.

A task yields batches of tokens. The caller runs the model and passes the log-probability of each
token to a scorer, which computes the metrics::

    task = load_task("choice", tokenizer=tokenizer, limit=200)
    scorer = task.scorer()
    for batch in task.batches(16):
        scorer.add(batch, *run_model(batch.input_ids, batch.attention_mask))
    print(scorer.result().metrics["accuracy"])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from siftmoe import plugins
from siftmoe.models.tasks.files import (
    ChoiceItem,
    read_choice,
    read_csqa,
    read_documents,
    read_piqa,
    read_text,
    read_xsum,
)
from siftmoe.models.tasks.sequences import (
    TextTokenizer,
    TokenSequence,
    encode,
    start_token,
    windows,
)
from siftmoe.models.tasks.task import (
    MAX_TOKENS,
    GenerationTask,
    Task,
    choice_task,
    perplexity_task,
    sequences_task,
    summary_task,
)
from siftmoe.models.tiny.files import data_path

KNOWN_TASKS = (
    "choice",
    "perplexity",
    "piqa:FILE.jsonl",
    "csqa:FILE.jsonl",
    "xsum:FILE.jsonl",
    "text:FILE.txt",
)
_SHIPPED = ("choice", "perplexity")
_OF_FILES = ("piqa", "csqa", "xsum", "text")
SPLITS = ("val", "test")

_Item = TypeVar("_Item")


def lengths_of(tasks: Sequence[Task | GenerationTask]) -> dict[str, tuple[int, int]]:
    """Items of each task that were cut and left out for their length, where there are any."""
    found = {
        task.name: (task.num_cut, 0 if isinstance(task, GenerationTask) else task.num_skipped)
        for task in tasks
    }
    return {name: counts for name, counts in found.items() if any(counts)}


def load_task(
    spec: str,
    *,
    tokenizer: TextTokenizer,
    limit: int | None = None,
    skip: int = 0,
    split: str = "test",
    max_tokens: int = MAX_TOKENS,
    context: int | None = None,
) -> Task | GenerationTask:
    """Load a task.

    Parameters
    ----------
    spec : str
        ``choice`` or ``perplexity`` for the sets that ship with the package; ``piqa:FILE.jsonl``
        (with its labels in the same folder), ``csqa:FILE.jsonl`` and ``xsum:FILE.jsonl`` for the
        public formats; ``text:FILE.txt`` for the perplexity of any text. A task from outside is
        named by its entry point or as ``package.module:Name``; the text after a further colon is
        its argument. It is called as
        ``make(argument, tokenizer=…, limit=…, skip=…, split=…, max_tokens=…)``.
    tokenizer : TextTokenizer
        The model's, as ``AutoTokenizer`` loads it.
    limit : int, optional
        Largest number of items.
    skip : int
        Number of first items to leave out, so that parts of a set can be evaluated separately.
    split : {"test", "val"}
        Split of a shipped set; a file has no splits.
    max_tokens : int
        Length of a window of text; longer questions are shortened at their beginning.
    context : int or None
        Tokens that the model takes, which bounds windows, questions and documents; None if there
        is no limit. What is cut or left out for it is counted and logged.

    Returns
    -------
    Task or GenerationTask
        The latter for ``xsum``.

    Raises
    ------
    ValueError
        If the task, the split or the limit is unknown or impossible.
    TaskDataError
        If a file is missing or a line of it is not of the stated format.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}, it must be at least 1")
    if skip < 0:
        raise ValueError(f"skip is {skip}, it must not be negative")
    if context is not None:
        max_tokens = min(max_tokens, context)
    if max_tokens < 8:
        raise ValueError(f"max_tokens is {max_tokens}, it must be at least 8")
    if (outside := _outside(spec)) is not None:
        make, argument = outside
        task = make(
            argument,
            tokenizer=tokenizer,
            limit=limit,
            skip=skip,
            split=split,
            max_tokens=max_tokens,
        )
        if not isinstance(task, Task | GenerationTask):
            raise ValueError(f"task {spec!r} gives {task!r}, neither a Task nor a GenerationTask")
        return task
    kind, path = _source(spec, split)
    if kind == "xsum":
        summaries = _some(read_xsum(path), skip, limit)
        return summary_task(spec, summaries, tokenizer=tokenizer, context=context)
    if kind in _CHOICE_READERS:
        questions = _some(_CHOICE_READERS[kind](path), skip, limit)
        return choice_task(spec, questions, tokenizer=tokenizer, max_tokens=max_tokens)
    if kind == "text":
        tokens = encode(tokenizer, read_text(path))
        pieces = list(windows(tokens, start=start_token(tokenizer), length=max_tokens))
        # A single text has no documents; its windows are the items of the standard error.
        sequences = [
            TokenSequence(tuple(row), begin, item, 0)
            for item, (row, begin) in enumerate(_some(pieces, skip, limit))
        ]
        return sequences_task(spec, sequences, len(sequences))
    texts = _some(read_documents(path), skip, limit)
    return perplexity_task(spec, texts, tokenizer=tokenizer, max_tokens=max_tokens)


def _outside(spec: str) -> tuple[Callable[..., Any], str] | None:
    """Find a task that comes from outside, and its argument; None if it is none."""
    kind, _, argument = spec.partition(":")
    if kind in (*_SHIPPED, *_OF_FILES):
        return None
    if kind not in plugins.installed(plugins.TASKS):
        kind, parts = plugins.split(spec)
        argument = ":".join(parts)
        if not plugins.is_there(kind):
            return None
    return plugins.find(plugins.TASKS, kind, {}), argument


_CHOICE_READERS: dict[str, Callable[[Path], list[ChoiceItem]]] = {
    "choice": read_choice,
    "piqa": read_piqa,
    "csqa": read_csqa,
}


def _source(spec: str, split: str) -> tuple[str, Path]:
    """Return a task's kind and the file it is read from."""
    kind, colon, file = spec.partition(":")
    if not colon and kind in _SHIPPED:
        if split not in SPLITS:
            raise ValueError(f"no split {split!r}: there are {', '.join(SPLITS)}")
        return kind, data_path(f"{kind}-{split}")
    if kind not in _OF_FILES or not file:
        known = ", ".join([*KNOWN_TASKS, *sorted(plugins.installed(plugins.TASKS))])
        raise ValueError(f"unknown task {spec!r}: use one of {known}, or package.module:Name")
    if split != "test":
        raise ValueError(f"task {spec!r} has no split {split!r}: name the file of that split")
    return kind, Path(file)


def _some(items: list[_Item], skip: int, limit: int | None) -> list[_Item]:
    chosen = items[skip:] if limit is None else items[skip : skip + limit]
    if not chosen:
        raise ValueError(f"there are {len(items)} items; skip {skip} leaves none of them")
    return chosen
