"""Baselines of multiple choice and perplexity without a language model.

::

    python -m siftmoe.models.training.baselines --tokens build/tiny/tokens \
        --out models/tiny/baselines.json

Unigrams and bigrams are counted in the training split; the bigram is smoothed by the unigram.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import AutoTokenizer

from siftmoe.models.tasks.evaluation import load_task
from siftmoe.models.tasks.files import ChoiceItem, read_choice
from siftmoe.models.tasks.scores import mean
from siftmoe.models.tasks.sequences import Batch, encode_pair
from siftmoe.models.tasks.task import GenerationTask
from siftmoe.models.tiny.files import data_path
from siftmoe.models.training.evalsets import content_words
from siftmoe.models.training.tokenizer import VOCAB_SIZE

# Weight of the unigram in the bigram, in counts; close to the best on the validation split.
BIGRAM_SMOOTHING = 30.0
Scores = Callable[[ChoiceItem], Sequence[float]]


class NGrams:
    """Log-probabilities of a token from counts: alone, and given the preceding token."""

    def __init__(self, tokens: NDArray[np.uint16]) -> None:
        counts = np.bincount(tokens, minlength=VOCAB_SIZE) + 1.0
        self._unigram = counts / counts.sum()
        pairs = tokens[:-1].astype(np.int64) * VOCAB_SIZE + tokens[1:]
        self._pairs = np.bincount(pairs, minlength=VOCAB_SIZE**2).reshape(VOCAB_SIZE, VOCAB_SIZE)
        self._before = self._pairs.sum(axis=1)

    def unigram(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return log P(token), natural."""
        return np.asarray(np.log(self._unigram[tokens]))

    def bigram(self, before: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return log P(token | preceding token), natural."""
        seen = self._pairs[before, tokens] + BIGRAM_SMOOTHING * self._unigram[tokens]
        return np.asarray(np.log(seen / (self._before[before] + BIGRAM_SMOOTHING)))

    def guess(self, before: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the most likely token after each one."""
        return np.asarray(self._pairs.argmax(axis=1)[before])


def word_overlap(item: ChoiceItem) -> list[float]:
    """Score options by the share of their words that occur in the context."""
    context = content_words(item.context)
    return [len(words & context) / max(1, len(words)) for words in map(content_words, item.options)]


def rare_word_overlap(items: Sequence[ChoiceItem]) -> Scores:
    """Return the sum over the common words of their rarity among all items."""
    texts = [content_words(text) for item in items for text in (item.context, *item.options)]
    counts = Counter(word for text in texts for word in text)

    def scores(item: ChoiceItem) -> list[float]:
        context = content_words(item.context)
        common = [content_words(option) & context for option in item.options]
        return [sum(math.log(len(texts) / counts[w]) for w in sorted(words)) for words in common]

    return scores


def choice_scores(items: Sequence[ChoiceItem], grams: NGrams, tokenizer: Any) -> dict[str, Scores]:
    """Return the scores of the trivial baselines, by name."""

    def split(item: ChoiceItem, option: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        context, answer = encode_pair(tokenizer, item.context, option)
        return np.array([context[-1], *answer[:-1]]), np.array(answer)

    def unigram(item: ChoiceItem) -> list[float]:
        return [float(grams.unigram(split(item, o)[1]).mean()) for o in item.options]

    def bigram(item: ChoiceItem) -> list[float]:
        return [float(grams.bigram(*split(item, o)).mean()) for o in item.options]

    return {
        "longest": lambda item: [len(option) for option in item.options],
        "shortest": lambda item: [-len(option) for option in item.options],
        "fewest_words": lambda item: [-len(content_words(option)) for option in item.options],
        "most_words": lambda item: [len(content_words(option)) for option in item.options],
        "word_overlap": word_overlap,
        "least_word_overlap": lambda item: [-share for share in word_overlap(item)],
        "rare_word_overlap": rare_word_overlap(items),
        "unigram": unigram,
        "bigram": bigram,
    }


def perplexities(grams: NGrams, tokenizer: Any) -> dict[str, object]:
    """Return perplexity and next-token accuracy of the n-grams on the test documents."""
    task = load_task("perplexity", tokenizer=tokenizer)
    if isinstance(task, GenerationTask):
        raise TypeError("the perplexity task is scored by log-probabilities")
    results = {}
    for name in ("unigram", "bigram"):
        scorer = task.scorer()
        for batch in task.batches(64):
            scorer.add(batch, *_batch_scores(name, grams, batch))
        results[name] = asdict(scorer.result())["metrics"]
    return dict(results)


def _batch_scores(
    name: str, grams: NGrams, batch: Batch
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    before, tokens = batch.input_ids[:, :-1], batch.input_ids[:, 1:]
    logprobs = np.zeros(batch.input_ids.shape)
    hits = np.zeros(batch.input_ids.shape, dtype=np.bool_)
    if name == "unigram":
        logprobs[:, 1:] = grams.unigram(tokens)
        hits[:, 1:] = tokens == grams.unigram(np.arange(VOCAB_SIZE)).argmax()
    else:
        logprobs[:, 1:] = grams.bigram(before, tokens)
        hits[:, 1:] = tokens == grams.guess(before)
    return logprobs, hits


def main() -> None:
    """Compute the baselines from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.tokens / "tokenizer")
    grams = NGrams(np.load(arguments.tokens / "train.npy"))
    items = read_choice(data_path("choice-test"))
    chance = float(np.mean([1 / len(item.options) for item in items]))
    choice: dict[str, object] = {"chance": {"value": chance, "standard_error": None}}
    for name, score in choice_scores(items, grams, tokenizer).items():
        right = [int(np.argmax(score(item))) == item.answer for item in items]
        choice[name] = asdict(mean(np.array(right)))
    figures = {"choice": choice, "perplexity": perplexities(grams, tokenizer)}
    text = json.dumps(figures, indent=1) + "\n"
    print(text, end="")
    arguments.out.write_text(text)


if __name__ == "__main__":
    main()
