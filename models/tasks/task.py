"""A task: batches of tokens and their scorer, or prompts and reference texts. Needs no torch."""

from __future__ import annotations

import bisect
import logging
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from siftmoe.models.tasks.files import ChoiceItem, SummaryItem
from siftmoe.models.tasks.rouge import rouge_l
from siftmoe.models.tasks.scores import (
    ChoiceScorer,
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

#: Length of a window, and of a question, unless another is asked for.
MAX_TOKENS = 256
#: Tokens of a generated summary at most; the one-line references of XSum have fewer.
SUMMARY_TOKENS = 64
#: Fewer tokens of a document are not worth a summary.
_LEAST_PROMPT = 8

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """A task that is scored by the log-probabilities of given tokens.

    ``num_cut`` items were shortened, ``num_skipped`` left out, because they are too long.
    """

    name: str
    sequences: tuple[TokenSequence, ...]
    num_items: int
    make_scorer: Callable[[], Scorer]
    num_cut: int = 0
    num_skipped: int = 0

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
        """All tokens of all sequences, including those that are not scored."""
        return sum(len(s.tokens) for s in self.sequences)


@dataclass(frozen=True, slots=True)
class GenerationTask:
    """A task in which the model writes a text for each prompt.

    ``num_cut`` prompts were shortened, because they are longer than the model's context.
    """

    name: str
    prompts: tuple[str, ...]
    references: tuple[str, ...]
    num_cut: int = 0

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


def choice_task(
    name: str,
    questions: Sequence[ChoiceItem],
    *,
    tokenizer: TextTokenizer,
    max_tokens: int = MAX_TOKENS,
) -> Task:
    """Make a task of questions: an option gives two sequences, after question and after premise.

    Longer questions are shortened at their beginning. A question with an option that alone is
    longer, or has no token, is left out. Both are counted and logged.

    Raises
    ------
    ValueError
        If no question is left.
    """
    kept: list[ChoiceItem] = []
    sequences: list[TokenSequence] = []
    num_cut = 0
    for question in questions:
        found = _question(question, len(kept), tokenizer=tokenizer, max_tokens=max_tokens)
        if found is not None:
            rows, cut = found
            kept.append(question)
            sequences += rows
            num_cut += cut
    num_skipped = len(questions) - len(kept)
    if not kept:
        raise ValueError(
            f"{name}: every question has an option without tokens or with more than fit into "
            f"{max_tokens}, the model's context or max_tokens"
        )
    _log_lengths(name, "questions", len(questions), num_cut, num_skipped, max_tokens)
    return Task(
        name,
        tuple(sequences),
        len(kept),
        lambda: ChoiceScorer(name, sequences, kept),
        num_cut=num_cut,
        num_skipped=num_skipped,
    )


def _question(
    question: ChoiceItem, item: int, *, tokenizer: TextTokenizer, max_tokens: int
) -> tuple[list[TokenSequence], bool] | None:
    """Sequences of a question, and whether it was shortened; None if an option does not fit."""
    start = start_token(tokenizer)
    premise = encode(tokenizer, question.premise) if question.premise else []
    sequences, cut = [], False
    for number, option in enumerate(question.options):
        context, answer = encode_pair(tokenizer, question.context, option)
        room = max_tokens - 1 - len(answer)
        if room < len(premise) or not answer:
            return None
        cut = cut or len(context) > room
        for part, before in enumerate((context[max(0, len(context) - room) :], premise)):
            row = (start, *before, *answer)
            sequences.append(TokenSequence(row, 1 + len(before), item, 2 * number + part))
    return sequences, cut


def summary_task(
    name: str, items: Sequence[SummaryItem], *, tokenizer: TextTokenizer, context: int | None = None
) -> GenerationTask:
    """Make a task of documents to summarise.

    A document that does not fit into the model's context together with its summary is cut at its
    end; how many are is counted and logged.

    Parameters
    ----------
    context : int or None
        Tokens that the model takes; None if there is no limit.

    Raises
    ------
    ValueError
        If no document fits into the context beside a summary.
    """
    documents = [item.document for item in items]
    references = tuple(item.summary for item in items)
    if context is None:
        return GenerationTask(name, tuple(documents), references)
    room = context - 1 - SUMMARY_TOKENS
    if room < _LEAST_PROMPT:
        raise ValueError(
            f"{name}: the model's context of {context} tokens has no room for a document beside a "
            f"summary of {SUMMARY_TOKENS}"
        )
    prompts = tuple(shortened(tokenizer, text, room) for text in documents)
    num_cut = sum(map(operator.ne, prompts, documents))
    _log_lengths(name, "documents", len(documents), num_cut, 0, room)
    return GenerationTask(name, prompts, references, num_cut)


def shortened(tokenizer: TextTokenizer, text: str, length: int) -> str:
    """Return the longest beginning of a text, up to a word's end, of at most so many tokens."""
    if len(encode(tokenizer, text)) <= length:
        return text
    ends = [match.end() for match in re.finditer(r"\S+", text)]
    fitting = bisect.bisect_right(ends, length, key=lambda end: len(encode(tokenizer, text[:end])))
    return text[: ends[fitting - 1]] if fitting else ""


def _log_lengths(
    name: str, what: str, total: int, num_cut: int, num_skipped: int, length: int
) -> None:
    if num_cut:
        _log.warning(
            "%s: %d of %d %s are longer than %d tokens and were cut",
            *(name, num_cut, total, what, length),
        )
    if num_skipped:
        _log.warning(
            "%s: %d of %d %s are left out: an option has no token or more than fit into %d",
            *(name, num_skipped, total, what, length),
        )


def perplexity_task(
    name: str, texts: Sequence[str], *, tokenizer: TextTokenizer, max_tokens: int = MAX_TOKENS
) -> Task:
    """Make a task of independent documents; every token of a document is scored once."""
    start = start_token(tokenizer)
    sequences = [
        TokenSequence(tuple(row), begin, item, part)
        for item, text in enumerate(texts)
        for part, (row, begin) in enumerate(
            windows(encode(tokenizer, text), start=start, length=max_tokens)
        )
    ]
    return sequences_task(name, sequences, len(texts))


def sequences_task(name: str, sequences: list[TokenSequence], num_items: int) -> Task:
    """Make a perplexity task of token sequences that belong to ``num_items`` items."""
    rows = tuple(sequences)
    return Task(name, rows, num_items, lambda: PerplexityScorer(name, rows))
