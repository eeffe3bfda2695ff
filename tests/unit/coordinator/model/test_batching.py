"""Continuous batching: whoever joins and leaves when, a sequence is what it is alone."""

from __future__ import annotations

import pytest
import torch
from families import build_model

from siftmoe.coordinator.model.batching import DecodingBatch

PROMPTS = ([5, 9, 3], [7], [4, 4, 8, 2, 6])


@pytest.fixture(scope="module")
def model():
    return build_model("mixtral")


def alone(model, ids, tokens):
    """Logits after the prompt and after each further token, by one whole pass."""
    with torch.inference_mode():
        return model(torch.tensor([[*ids, *tokens]])).logits[0, len(ids) - 1 :]


def test_sequences_that_join_and_leave_are_what_they_are_alone(model):
    batch = DecodingBatch(model)
    fed, seen, prompts = {}, {}, {}

    def join(ids):
        key, logits = batch.join(ids)
        prompts[key], fed[key], seen[key] = ids, [], [logits[-1]]
        return key

    def step():
        tokens = {key: 10 + key + len(fed[key]) for key in batch.keys}
        for key, logits in batch.step(tokens).items():
            fed[key].append(tokens[key])
            seen[key].append(logits)

    first = join(PROMPTS[0])
    step()
    join(PROMPTS[1])
    step()
    longest = join(PROMPTS[2])
    step()
    batch.leave([first])
    step()
    assert batch.lengths == {key: len(prompts[key]) + len(fed[key]) for key in batch.keys}
    batch.leave([longest])
    step()
    for key, ids in prompts.items():
        expected = alone(model, ids, fed[key])
        assert torch.allclose(torch.stack(seen[key]), expected, atol=1e-5)
    batch.leave(batch.keys)
    assert batch.keys == ()
    assert join(PROMPTS[0]) not in (first, longest)


def test_every_position_of_a_prompt_is_scored(model):
    _, logits = DecodingBatch(model).join(PROMPTS[2])
    with torch.inference_mode():
        whole = model(torch.tensor([PROMPTS[2]])).logits[0]
    assert torch.allclose(logits, whole, atol=1e-6)


def test_what_cannot_be_batched_is_refused(model):
    batch = DecodingBatch(model)
    with pytest.raises(ValueError, match="at least one token"):
        batch.join([])
    key, _ = batch.join([3])
    with pytest.raises(ValueError, match=r"a step feeds sequences \[0\], got \[1\]"):
        batch.step({key + 1: 4})
    with pytest.raises(ValueError, match=r"the batch has sequences \[0\], got \[5\]"):
        batch.leave([5])
    with pytest.raises(ValueError, match="encoder-decoder"):
        DecodingBatch(build_model("switch"))
