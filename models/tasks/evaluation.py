"""Accuracy tasks: perplexity, multiple choice, one-line summaries. No model and no torch in here.

A task yields batches of tokens, whoever runs the model hands back the log-probability of each, and
a scorer makes figures of them::

    task = load_task("choice", tokenizer=tokenizer, limit=200)
    scorer = task.scorer()
    for batch in task.batches(16):
        scorer.add(batch, *run_model(batch.input_ids, batch.attention_mask))
    print(scorer.result().metrics["accuracy"])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

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
from siftmoe.models.tasks.rouge import rouge_l
from siftmoe.models.tasks.scores import (
    ChoiceScorer,
    Metric,
    PerplexityScorer,
    Scorer,
    TaskResult,
    mean,
)
from siftmoe.models.tasks.sequences import (
    Batch,
    TextTokenizer,
    TokenSequence,
    encode,
    encode_pair,
    make_batches,
    start_token,
    windows,
)
from siftmoe.models.tiny.files import data_path

__all__ = [
    "Batch",
    "GenerationTask",
    "Metric",
    "Scorer",
    "Task",
    "TaskResult",
    "choice_task",
    "load_task",
    "perplexity_task",
]

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
MAX_TOKENS = 256

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Task:
    """A task that is scored by the log-probabilities of given tokens."""

    name: str
    sequences: tuple[TokenSequence, ...]
    num_items: int
    make_scorer: Callable[[], Scorer]

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield every sequence of the task once, padded on the right.

        Raises
        ------
        ValueError
            If ``batch_size`` is below 1.
        """
        return make_batches(self.sequences, batch_size)

    def scorer(self) -> Scorer:
        """Return an empty scorer for one run over the batches."""
        return self.make_scorer()

    @property
    def num_tokens(self) -> int:
        """All tokens of all sequences, those that do not count included."""
        return sum(len(s.tokens) for s in self.sequences)


@dataclass(frozen=True, slots=True)
class GenerationTask:
    """A task in which the model writes a text for each prompt."""

    name: str
    prompts: tuple[str, ...]
    references: tuple[str, ...]

    def score(self, texts: Sequence[str]) -> TaskResult:
        """Return the mean ROUGE-L of the texts, in the order of the prompts.

        Raises
        ------
        ValueError
            If there is not one text for each prompt.
        """
        if len(texts) != len(self.references):
            raise ValueError(f"{len(texts)} texts for {len(self.references)} prompts")
        pairs = zip(texts, self.references, strict=True)
        scores = np.array([rouge_l(text, reference) for text, reference in pairs])
        words = sum(len(text.split()) for text in texts)
        return TaskResult(self.name, {"rouge_l": mean(scores)}, len(texts), words)

    def lead_sentences(self) -> list[str]:
        """Return the first sentence of each prompt: the baseline of a summary."""
        return [prompt.replace("\n", " ").split(". ")[0] for prompt in self.prompts]


def load_task(
    spec: str,
    *,
    tokenizer: TextTokenizer,
    limit: int | None = None,
    skip: int = 0,
    split: str = "test",
    max_tokens: int = MAX_TOKENS,
) -> Task | GenerationTask:
    """Load a task.

    Parameters
    ----------
    spec : str
        ``choice`` or ``perplexity`` for the sets that ship with the package; ``piqa:FILE.jsonl``
        (labels beside it), ``csqa:FILE.jsonl``, ``xsum:FILE.jsonl`` for the public formats;
        ``text:FILE.txt`` for the perplexity of any text. A task from outside is named by its entry
        point or as ``package.module:Name``, and what follows after a colon is its argument; it is
        called as ``make(argument, tokenizer=…, limit=…, skip=…, split=…, max_tokens=…)``.
    tokenizer : TextTokenizer
        The model's, as ``AutoTokenizer`` loads it.
    limit : int, optional
        Take that many items at most.
    skip : int
        Leave out the first ones, so that parts of a set can be evaluated apart.
    split : {"test", "val"}
        Of the shipped sets; a file is its own split.
    max_tokens : int
        Length of a window of text, and what a question is shortened to, from its beginning.

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
        documents = tuple(s.document for s in summaries)
        return GenerationTask(spec, documents, tuple(s.summary for s in summaries))
    if kind in _CHOICE_READERS:
        questions = _some(_CHOICE_READERS[kind](path), skip, limit)
        return choice_task(spec, questions, tokenizer=tokenizer, max_tokens=max_tokens)
    if kind == "text":
        tokens = encode(tokenizer, read_text(path))
        pieces = list(windows(tokens, start=start_token(tokenizer), length=max_tokens))
        # One text has no documents to take the error over: its windows stand for them.
        sequences = [
            TokenSequence(tuple(row), begin, item, 0)
            for item, (row, begin) in enumerate(_some(pieces, skip, limit))
        ]
        return _perplexity(spec, sequences, len(sequences))
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


def choice_task(
    name: str,
    questions: Sequence[ChoiceItem],
    *,
    tokenizer: TextTokenizer,
    max_tokens: int = MAX_TOKENS,
) -> Task:
    """Make a task of questions: two sequences per option, after the question and after the premise.

    Raises
    ------
    ValueError
        If an option alone is longer than ``max_tokens``.
    """
    start = start_token(tokenizer)
    sequences = []
    for item, question in enumerate(questions):
        premise = encode(tokenizer, question.premise) if question.premise else []
        for number, option in enumerate(question.options):
            context, answer = encode_pair(tokenizer, question.context, option)
            room = max_tokens - 1 - len(answer)
            if room < len(premise) or not answer:
                raise ValueError(
                    f"{name}: option {number} of question {item} has {len(answer)} tokens; "
                    f"1 to {max_tokens - 1 - len(premise)} fit, raise max_tokens"
                )
            for part, before in enumerate((context[max(0, len(context) - room) :], premise)):
                row = (start, *before, *answer)
                sequences.append(TokenSequence(row, 1 + len(before), item, 2 * number + part))
    rows = tuple(sequences)
    return Task(name, rows, len(questions), lambda: ChoiceScorer(name, rows, questions))


def perplexity_task(
    name: str, texts: Sequence[str], *, tokenizer: TextTokenizer, max_tokens: int = MAX_TOKENS
) -> Task:
    """Make a task of documents, each one starting anew; every token of a document counts once."""
    start = start_token(tokenizer)
    sequences = [
        TokenSequence(tuple(row), begin, item, part)
        for item, text in enumerate(texts)
        for part, (row, begin) in enumerate(
            windows(encode(tokenizer, text), start=start, length=max_tokens)
        )
    ]
    return _perplexity(name, sequences, len(texts))


def _perplexity(name: str, sequences: list[TokenSequence], num_items: int) -> Task:
    rows = tuple(sequences)
    return Task(name, rows, num_items, lambda: PerplexityScorer(name, rows))


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
