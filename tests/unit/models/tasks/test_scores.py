"""Scores of a task, by hand and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from char_tokenizer import TOKENIZER, run, tokens_of

from siftmoe.models.tasks.files import ChoiceItem
from siftmoe.models.tasks.scores import mean, ratio
from siftmoe.models.tasks.sequences import make_batches
from siftmoe.models.tasks.task import choice_task, perplexity_task


def test_perplexity_by_hand():
    # log P = -1 for an "a", -3 for a "b": documents "aab" and "b".
    cost = {10 + ord("a"): -1.0, 10 + ord("b"): -3.0}
    task = perplexity_task("p", ["aab", "b"], tokenizer=TOKENIZER)
    result = run(task, lambda x, t: cost[x[t]], hit=lambda x, t: x[t] == 10 + ord("a"))
    assert result.metrics["cross_entropy"].value == pytest.approx(8 / 4)
    assert result.metrics["perplexity"].value == pytest.approx(math.exp(2))
    assert result.metrics["next_token_accuracy"].value == pytest.approx(0.5)
    assert (result.num_items, result.num_tokens) == (2, 4)
    # y - r m: 5 - 2*3 = -1 and 3 - 2*1 = 1; sqrt(2/1 * 2) / 4
    assert result.metrics["cross_entropy"].standard_error == pytest.approx(0.5)
    assert result.metrics["perplexity"].standard_error == pytest.approx(0.5 * math.exp(2))


def test_perplexity_does_not_depend_on_the_batches():
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abc"), size=n)) for n in rng.integers(1, 90, size=20)]
    task = perplexity_task("p", texts, tokenizer=TOKENIZER, max_tokens=24)
    results = [run(task, lambda x, t: -(x[t] % 5) / 3, batch_size=n) for n in (1, 4, 64)]
    for other in results[1:]:
        assert other.num_tokens == results[0].num_tokens == sum(map(len, texts))
        for name, metric in results[0].metrics.items():
            assert other.metrics[name].value == pytest.approx(metric.value)


def test_standard_errors_cover_the_truth():
    """The ratio estimator's interval of two errors holds the truth in about 95% of samples."""
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(400):
        tokens = rng.integers(5, 60, size=80).astype(float)
        level = rng.normal(3.0, 0.4, size=80)  # documents differ, tokens within one are alike
        metric = ratio(tokens * level, tokens)
        covered += abs(metric.value - 3.0) < 2 * metric.standard_error
    assert 0.91 < covered / 400 < 0.985
    assert mean(np.array([1.0])).standard_error is None
    assert mean(np.array([True, True, False, False])).standard_error == pytest.approx(0.5 / 3**0.5)


QUESTIONS = [
    ChoiceItem("q", ("aa", "b"), answer=0),
    ChoiceItem("q", ("aaa", "b"), answer=1),
]


def test_choice_is_scored_by_pmi():
    def logprob(tokens, t):
        # An "a" costs 2 alone and 1 after the question, a "b" costs 1 either way.
        if tokens[t] == 10 + ord("a"):
            return -1.0 if 10 + ord("q") in tokens else -2.0
        return -1.0 if tokens[t] == 10 + ord("b") else 0.0

    result = run(choice_task("c", QUESTIONS, tokenizer=TOKENIZER), logprob)
    # PMI: 2 against 0 and 3 against 0: the a's win. Likelihood: -2 and -3 against -1: b wins.
    # By length: -1 against -1: the first wins.
    assert result.metrics["accuracy"].value == 0.5
    assert result.metrics["accuracy_likelihood"].value == 0.5
    assert result.metrics["accuracy_per_char"].value == 0.5
    first = run(choice_task("c", QUESTIONS[:1], tokenizer=TOKENIZER), logprob)
    assert first.metrics["accuracy"].value == 1.0
    assert first.metrics["accuracy_likelihood"].value == 0.0
    assert first.metrics["accuracy"].standard_error is None


def test_choice_sequences_start_after_question_and_premise():
    question = ChoiceItem("long question", ("yes",), 0, premise="Answer:")
    task = choice_task("c", [question], tokenizer=TOKENIZER, max_tokens=14)
    given, alone = task.sequences
    assert given.tokens == (1, *tokens_of(" question"), *tokens_of(" yes"))  # 14, from the end
    assert given.tokens[given.target_start :] == tuple(tokens_of(" yes"))
    assert alone.tokens == (1, *tokens_of("Answer:"), *tokens_of(" yes"))
    assert alone.target_start == 8
    assert task.num_cut == 1
    with pytest.raises(ValueError, match=r"every question has an option .* fit into 11"):
        choice_task("c", [question], tokenizer=TOKENIZER, max_tokens=11)


def test_items_that_are_not_complete_do_not_count():
    task = choice_task("c", QUESTIONS, tokenizer=TOKENIZER)
    scorer = task.scorer()
    with pytest.raises(ValueError, match="no item is complete"):
        scorer.result()
    for sequence_batch in make_batches(task.sequences[:4], 4):
        zeros = np.zeros(sequence_batch.input_ids.shape)
        scorer.add(sequence_batch, zeros, zeros > 1)
    assert scorer.result().num_items == 1


def test_scores_are_checked():
    task = perplexity_task("p", ["abc"], tokenizer=TOKENIZER)
    (batch,) = task.batches(1)
    zeros = np.zeros(batch.input_ids.shape)
    hits = zeros > 1
    with pytest.raises(ValueError, match="has shape"):
        task.scorer().add(batch, zeros[:, :-1], hits)
    with pytest.raises(ValueError, match="NaN or positive"):
        task.scorer().add(batch, zeros + np.nan, hits)
    with pytest.raises(ValueError, match="NaN or positive"):
        task.scorer().add(batch, zeros + 0.5, hits)
    scorer = task.scorer()
    scorer.add(batch, zeros, hits)
    with pytest.raises(ValueError, match="added twice"):
        scorer.add(batch, zeros, hits)
