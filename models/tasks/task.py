"""A task: batches of tokens and their scorer, or prompts and reference texts. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from siftmoe.models.tasks.files import ChoiceItem
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
        """All tokens of all sequences, including those that are not scored."""
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


def choice_task(
    name: str,
    questions: Sequence[ChoiceItem],
    *,
    tokenizer: TextTokenizer,
    max_tokens: int = MAX_TOKENS,
) -> Task:
    """Make a task of questions: an option gives two sequences, after question and after premise.

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
