"""Tokens drawn from logits, and their log-probabilities."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from siftmoe.tools.serving.asking import Sampling
from siftmoe.tools.serving.sampling import Sampler, scored, scored_prompt

LOGITS = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))


def drawn(sampling: Sampling, count: int = 4000) -> list[float]:
    sampler = Sampler(sampling)
    counts = Counter(sampler.draw(LOGITS) for _ in range(count))
    return [counts[token] / count for token in range(4)]


def test_tokens_are_drawn_in_proportion() -> None:
    assert drawn(Sampling(seed=1)) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)


def test_a_temperature_sharpens() -> None:
    square = torch.tensor([0.5, 0.3, 0.15, 0.05]) ** 2
    expected = (square / square.sum()).tolist()
    assert drawn(Sampling(seed=1, temperature=0.5)) == pytest.approx(expected, abs=0.03)
    assert drawn(Sampling(seed=1, temperature=1e-6), 50) == [1.0, 0.0, 0.0, 0.0]
    assert drawn(Sampling(temperature=0.0), 50) == [1.0, 0.0, 0.0, 0.0]


def test_top_p_keeps_the_likeliest_that_reach_it() -> None:
    assert drawn(Sampling(seed=1, top_p=0.6)) == pytest.approx([0.625, 0.375, 0, 0], abs=0.03)
    assert drawn(Sampling(seed=1, top_p=0.01), 50) == [1.0, 0.0, 0.0, 0.0]


def test_penalties_move_on_from_what_was_drawn() -> None:
    greedy = {"temperature": 0.0}
    sampler = Sampler(Sampling(presence_penalty=1.0, **greedy))
    assert [sampler.draw(LOGITS) for _ in range(3)] == [0, 1, 0]
    sampler = Sampler(Sampling(frequency_penalty=1.0, **greedy))
    assert [sampler.draw(LOGITS) for _ in range(4)] == [0, 1, 0, 2]


def test_log_probabilities_are_of_the_model_whatever_is_drawn() -> None:
    told = scored(LOGITS + 7.0, 2, alternatives=2)
    assert told.logprob == pytest.approx(LOGITS[2].item(), abs=1e-6)
    assert [token for token, _ in told.likeliest] == [0, 1]
    first, second = scored_prompt((3, 1), LOGITS.expand(2, 4), alternatives=0)
    assert first.logprob is None
    assert second.logprob == pytest.approx(LOGITS[1].item(), abs=1e-6)
