"""Draws tokens from logits, and tells their log-probabilities."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch

from siftmoe.tools.serving.asking import Scored

if TYPE_CHECKING:
    from torch import Tensor

    from siftmoe.tools.serving.asking import Sampling


class Sampler:
    """Draws the tokens of one sequence; the same seed gives the same tokens."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)
        self._counts: Counter[int] = Counter()

    def draw(self, logits: Tensor) -> int:
        """Draw a token from logits (V,)."""
        token = self._draw(self._penalised(logits))
        self._counts[token] += 1
        return token

    def _penalised(self, logits: Tensor) -> Tensor:
        how = self._sampling
        if not self._counts or (how.frequency_penalty == 0.0 and how.presence_penalty == 0.0):
            return logits
        tokens = torch.tensor(list(self._counts))
        counts = torch.tensor(list(self._counts.values()), dtype=logits.dtype)
        logits = logits.clone()
        logits[tokens] -= how.frequency_penalty * counts + how.presence_penalty
        return logits

    def _draw(self, logits: Tensor) -> int:
        how = self._sampling
        if how.temperature == 0.0:
            return int(logits.argmax())
        # float64: a low temperature must not overflow
        probability = torch.softmax(logits.double() / how.temperature, dim=-1)
        if how.top_p < 1.0:
            ordered, order = probability.sort(descending=True)
            beyond = ordered.cumsum(0) - ordered >= how.top_p  # the likeliest one always stays
            probability[order[beyond]] = 0.0
        return int(torch.multinomial(probability, 1, generator=self._generator))


def scored(logits: Tensor, token: int, *, alternatives: int) -> Scored:
    """Tell a token's log-probability under logits (V,), and the likeliest ones'."""
    logprobs = logits.log_softmax(dim=-1)
    values, tokens = logprobs.topk(min(alternatives, len(logprobs)))
    likeliest = tuple(zip(tokens.tolist(), values.tolist(), strict=True))
    return Scored(id=token, logprob=float(logprobs[token]), likeliest=likeliest)


def scored_prompt(ids: tuple[int, ...], logits: Tensor, *, alternatives: int) -> tuple[Scored, ...]:
    """Tell the log-probabilities of a prompt's tokens; logits (S, V) stand after each of them."""
    first = Scored(id=ids[0], logprob=None)
    rest = (
        scored(before, token, alternatives=alternatives)
        for before, token in zip(logits, ids[1:], strict=False)
    )
    return (first, *rest)
