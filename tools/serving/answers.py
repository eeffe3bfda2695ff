"""Bodies of answers, as OpenAI's interface has them; what they cost stands under ``siftmoe``."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from siftmoe.coordinator.ledger.spending import Spending

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siftmoe.tools.serving.asking import Done, Scored


def cost_of(spending: Spending) -> dict[str, Any]:
    """Tell what a request cost over the air, and what was decided for it."""
    slots = spending.kept + spending.replaced + spending.skipped
    mean_bits = spending.vector_bits / spending.vectors if spending.vectors else None
    return {
        "radio_j": spending.uplink_j + spending.answers_j,
        "uplink_j": spending.uplink_j,
        "answers_j": spending.answers_j,
        "source": sorted(spending.sources),
        "slots": slots,
        "kept": spending.kept / slots if slots else None,
        "replaced": spending.replaced / slots if slots else None,
        "skipped": spending.skipped / slots if slots else None,
        "bits_per_entry": mean_bits,
    }


def usage_of(ends: Sequence[Done]) -> dict[str, int]:
    """Count tokens."""
    prompt = sum(end.prompt_tokens for end in ends)
    completion = sum(end.completion_tokens for end in ends)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def totals(ends: Sequence[Done]) -> Spending:
    """Add up what several prompts of one request cost."""
    return sum((end.spending for end in ends), Spending())


def error_body(message: str, *, kind: str, code: str | None = None) -> dict[str, Any]:
    """Make an error's body."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Form of a request's answer.

    Parameters
    ----------
    chat : bool
    model : str
    tokenizer : transformers.PreTrainedTokenizerBase
    """

    chat: bool
    model: str
    tokenizer: Any
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def body(self, choices: list[dict[str, Any]], *, chunk: bool = False) -> dict[str, Any]:
        """Make a body of choices: a whole answer, or a chunk of a stream."""
        kind = "text_completion"
        if self.chat:
            kind = "chat.completion.chunk" if chunk else "chat.completion"
        return {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }

    def choice(
        self,
        index: int,
        text: str,
        *,
        tokens: Sequence[Scored] | None = None,
        offset: int = 0,
        reason: str | None = None,
        first: bool = False,
        chunk: bool = False,
    ) -> dict[str, Any]:
        """Make one choice; ``offset`` is the length of the text before it."""
        told: dict[str, Any] = {"index": index, "finish_reason": reason, "logprobs": None}
        if tokens is not None:
            told["logprobs"] = (
                self._chat_logprobs(tokens) if self.chat else self._logprobs(tokens, offset)
            )
        if not self.chat:
            return {**told, "text": text}
        role = {"role": "assistant"} if first or not chunk else {}
        content = {"content": text} if text or not chunk else {}
        return {**told, "delta" if chunk else "message": {**role, **content}}

    def _logprobs(self, tokens: Sequence[Scored], offset: int) -> dict[str, Any]:
        texts = [self._text(token.id) for token in tokens]
        offsets = [offset]
        for text in texts[:-1]:
            offsets.append(offsets[-1] + len(text))
        return {
            "tokens": texts,
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [
                {self._text(other): value for other, value in token.likeliest} or None
                for token in tokens
            ],
            "text_offset": offsets[: len(texts)],
        }

    def _chat_logprobs(self, tokens: Sequence[Scored]) -> dict[str, Any]:
        return {
            "content": [
                {
                    **self._one(token.id, token.logprob),
                    "top_logprobs": [self._one(*other) for other in token.likeliest],
                }
                for token in tokens
            ]
        }

    def _one(self, token: int, logprob: float | None) -> dict[str, Any]:
        text = self._text(token)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    def _text(self, token: int) -> str:
        return str(self.tokenizer.decode([token]))
