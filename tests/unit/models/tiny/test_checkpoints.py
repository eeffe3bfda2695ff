"""The shipped checkpoints at work."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, MixtralForCausalLM

from siftmoe.models.tasks.evaluation import load_task
from siftmoe.models.tasks.task import Task
from siftmoe.models.tiny.files import checkpoint_dir
from siftmoe.models.training.evaluate import run_task, token_scores
from siftmoe.models.training.model import new_model


@pytest.fixture(scope="module")
def upcycled():
    return MixtralForCausalLM.from_pretrained(checkpoint_dir("upcycled"), dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(checkpoint_dir("upcycled"))


def test_a_checkpoint_predicts_and_an_untrained_one_does_not(upcycled, tokenizer):
    trained = run_task("perplexity", upcycled.eval(), tokenizer, 6)
    assert trained.metrics["perplexity"].value < 60
    untrained = new_model(8, seed=0).eval()
    assert run_task("perplexity", untrained, tokenizer, 1).metrics["perplexity"].value > 1000


def test_log_probabilities_do_not_depend_on_padding(upcycled, tokenizer):
    task = load_task("choice", tokenizer=tokenizer, limit=1)
    assert isinstance(task, Task)
    (batch,) = task.batches(8)
    logprobs, hits = token_scores(upcycled.eval(), batch)
    lengths = batch.attention_mask.sum(axis=1)
    assert len(set(lengths)) > 2
    for single in task.batches(1):
        (b,) = np.flatnonzero(batch.rows == single.rows[0])
        expected, expected_hits = token_scores(upcycled, single)
        np.testing.assert_allclose(logprobs[b, : lengths[b]], expected[0], atol=2e-4)
        assert np.array_equal(hits[b, : lengths[b]], expected_hits[0])


def test_the_tokenizer_starts_a_prompt_and_gives_text_back(tokenizer):
    text = "Return the sum of `x` over 12 axes.\n\n    é → ok"
    tokens = tokenizer(text)["input_ids"]
    assert tokens[0] == tokenizer.bos_token_id
    assert tokenizer.decode(tokens[1:]) == text
