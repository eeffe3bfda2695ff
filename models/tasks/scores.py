"""Computes a task's metrics and their standard errors from log-probabilities of its tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from siftmoe.models.tasks.files import ChoiceItem
from siftmoe.models.tasks.sequences import Batch, BoolArray, IntArray, TokenSequence

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure and its standard error, which is None for a single item."""

    value: float
    standard_error: float | None


@dataclass(frozen=True, slots=True)
class TaskResult:
    """The metrics of a model in a task.

    Attributes
    ----------
    name : str
        The task.
    metrics : dict of str to Metric
    num_items : int
        Items whose tokens were all scored.
    num_tokens : int
        Scored tokens.
    documents : tuple of (float, int)
        Of a perplexity: negative log-likelihood in nats and scored tokens of each document, so that
        two runs on one text can be compared document by document.
    """

    name: str
    metrics: dict[str, Metric]
    num_items: int
    num_tokens: int
    documents: tuple[tuple[float, int], ...] = ()


class Scorer(Protocol):
    """Collects log-probabilities batch by batch, in any order, and computes the metrics."""

    def add(self, batch: Batch, token_logprobs: FloatArray, token_hits: BoolArray) -> None:
        """Add the log-probabilities and the correct predictions of one batch."""

    def result(self) -> TaskResult:
        """Return the metrics over the complete items."""


class SequenceSums:
    """Sums over the scored tokens of each sequence.

    Attributes
    ----------
    logprob, hits, tokens : (S,) arrays
        Natural log-probability, correct predictions and scored tokens of each sequence.
    seen : (S,) bool
    """

    def __init__(self, num_sequences: int) -> None:
        self.logprob = np.zeros(num_sequences)
        self.hits = np.zeros(num_sequences, dtype=np.int64)
        self.tokens = np.zeros(num_sequences, dtype=np.int64)
        self.seen = np.zeros(num_sequences, dtype=np.bool_)

    def add(self, batch: Batch, token_logprobs: FloatArray, token_hits: BoolArray) -> None:
        """Add a batch.

        Parameters
        ----------
        batch : Batch
        token_logprobs : (B, T) float64
            log P(input_ids[b, t] | input_ids[b, :t]), natural; used where the batch's target mask
            is True.
        token_hits : (B, T) bool
            Whether input_ids[b, t] was the most likely token there.

        Raises
        ------
        ValueError
            If a shape is wrong, a scored value is no log-probability, or the batch was added
            before.
        """
        mask = batch.target_mask
        for name, array in (("token_logprobs", token_logprobs), ("token_hits", token_hits)):
            if np.shape(array) != mask.shape:
                raise ValueError(f"{name} has shape {np.shape(array)}, the batch {mask.shape}")
        counted = np.asarray(token_logprobs, dtype=np.float64)[mask]
        # A sum of rounded float32 probabilities may slightly exceed one.
        if not np.all(counted <= 1e-3):
            raise ValueError("token_logprobs has NaN or positive values: not log-probabilities")
        if self.seen[batch.rows].any():
            raise ValueError("a batch was added twice")
        self.seen[batch.rows] = True
        self.logprob[batch.rows] = np.where(mask, token_logprobs, 0.0).sum(axis=1)
        self.hits[batch.rows] = (mask & np.asarray(token_hits, dtype=np.bool_)).sum(axis=1)
        self.tokens[batch.rows] = mask.sum(axis=1)


class PerplexityScorer:
    """Perplexity and next-token accuracy over documents."""

    def __init__(self, name: str, sequences: Sequence[TokenSequence]) -> None:
        self._name = name
        self._items = np.array([s.item for s in sequences], dtype=np.int64)
        self._sums = SequenceSums(len(sequences))

    def add(self, batch: Batch, token_logprobs: FloatArray, token_hits: BoolArray) -> None:
        """Add one batch; see `SequenceSums.add`."""
        self._sums.add(batch, token_logprobs, token_hits)

    def result(self) -> TaskResult:
        """Return cross entropy (nats per token), perplexity and next-token accuracy.

        Raises
        ------
        ValueError
            If no document is complete.
        """
        complete = _complete_items(self._items, self._sums.seen)

        def totals(values: FloatArray | IntArray) -> FloatArray:
            sums = np.bincount(self._items, weights=values, minlength=len(complete))
            return sums[complete].astype(np.float64)

        tokens, nats = totals(self._sums.tokens), -totals(self._sums.logprob)
        entropy = ratio(nats, tokens)
        perplexity = math.exp(entropy.value)
        error = entropy.standard_error
        metrics = {
            "perplexity": Metric(perplexity, None if error is None else perplexity * error),
            "cross_entropy": entropy,
            "next_token_accuracy": ratio(totals(self._sums.hits), tokens),
        }
        documents = tuple(zip(nats.tolist(), map(int, tokens), strict=True))
        return TaskResult(
            self._name, metrics, int(complete.sum()), int(tokens.sum()), documents=documents
        )


class ChoiceScorer:
    """Accuracy of multiple choice.

    Sequence ``part`` 2k is option k after its question, part 2k + 1 option k after the premise.
    """

    def __init__(
        self, name: str, sequences: Sequence[TokenSequence], items: Sequence[ChoiceItem]
    ) -> None:
        self._name = name
        self._questions = items
        self._items = np.array([s.item for s in sequences], dtype=np.int64)
        self._sums = SequenceSums(len(sequences))
        self._first = np.searchsorted(self._items, np.arange(len(items)))  # ordered by item, part

    def add(self, batch: Batch, token_logprobs: FloatArray, token_hits: BoolArray) -> None:
        """Add one batch; see `SequenceSums.add`."""
        self._sums.add(batch, token_logprobs, token_hits)

    def result(self) -> TaskResult:
        r"""Return the accuracy under three scores of an option o after a question q.

        ``accuracy``: pointwise mutual information, :math:`\log P(o|q) - \log P(o|premise)`
        (Holtzman et al., arXiv 2104.08315); ``accuracy_likelihood``: :math:`\log P(o|q)`;
        ``accuracy_per_char``: the same over the option's length in characters.

        Raises
        ------
        ValueError
            If no question is complete.
        """
        complete = _complete_items(self._items, self._sums.seen)
        hits = np.array([self._hits(item) for item in np.flatnonzero(complete).tolist()])  # [n, 3]
        names = ("accuracy", "accuracy_likelihood", "accuracy_per_char")
        metrics = {name: mean(hits[:, k]) for k, name in enumerate(names)}
        tokens = int(self._sums.tokens[complete[self._items]].sum())
        return TaskResult(self._name, metrics, len(hits), tokens)

    def _hits(self, item: int) -> list[bool]:
        question = self._questions[item]
        first, count = self._first[item], len(question.options)
        pairs = self._sums.logprob[first : first + 2 * count].reshape(count, 2)
        given, alone = pairs[:, 0], pairs[:, 1]
        lengths = np.array([len(option) for option in question.options])
        scores = (given - alone, given, given / lengths)
        return [int(np.argmax(score)) == question.answer for score in scores]


def _complete_items(items: IntArray, seen: BoolArray) -> BoolArray:
    missing = np.bincount(items, weights=~seen)
    complete = missing == 0
    if not complete.any():
        raise ValueError("no item is complete yet: add every batch of at least one item")
    return np.asarray(complete, dtype=np.bool_)


def mean(values: FloatArray | BoolArray) -> Metric:
    """Return the mean of independent values and its standard error."""
    count = len(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else None
    return Metric(float(np.mean(values)), error)


def ratio(numerators: FloatArray, denominators: FloatArray) -> Metric:
    r"""Return the ratio of two sums over independent items and its standard error.

    .. math:: r = \frac{\sum_i y_i}{\sum_i m_i}, \quad
        s_r^2 = \frac{n}{n - 1} \frac{\sum_i (y_i - r m_i)^2}{(\sum_i m_i)^2}

    Notes
    -----
    The ratio estimator for clusters of unequal size (Cochran, "Sampling Techniques", 1977,
    section 6.4): tokens of one document are not independent, documents are.
    """
    total = float(denominators.sum())
    value = float(numerators.sum()) / total
    count = len(numerators)
    if count < 2:
        return Metric(value, None)
    spread = float(((numerators - value * denominators) ** 2).sum())
    return Metric(value, math.sqrt(count / (count - 1) * spread) / total)
