"""Runs a model on text: answers a prompt, evaluates a task.

A session does not depend on helpers: the same class runs a model whose experts are attached to a
coordinator, and the undivided model for comparison.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import TextStreamer

from siftmoe.models.tasks.task import SUMMARY_TOKENS, GenerationTask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from siftmoe.models.tasks.scores import TaskResult
    from siftmoe.models.tasks.sequences import Batch
    from siftmoe.models.tasks.task import Task

#: Of Keskar et al. 2019 (CTRL), as in transformers' ``generate``.
REPETITION_PENALTY = 1.2


class Session:
    """One model and its tokenizer.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    tokenizer : transformers.PreTrainedTokenizerBase
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        max_new_tokens: int,
        on_text: Callable[[str], None] | None = None,
    ) -> str:
        """Likeliest continuation of a prompt with a KV cache, streamed piece by piece.

        Greedy, with the usual penalty on repetition, without which small models repeat themselves.

        Parameters
        ----------
        prompt : str or sequence of int
            Text, or tokens that are taken as they are, as those of a chat template.
        max_new_tokens : int
        on_text : callable or None
            Called with each new piece of text as soon as it is decoded.

        Returns
        -------
        str
            The continuation without the prompt.
        """
        tokens = self._encode(prompt)
        streamer = None if on_text is None else _Streamer(self.tokenizer, on_text)
        with torch.inference_mode():
            output = self.model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                repetition_penalty=REPETITION_PENALTY,
                streamer=streamer,
            )
        start = 0 if self.model.config.is_encoder_decoder else tokens.shape[1]
        return str(self.tokenizer.decode(output[0, start:], skip_special_tokens=True))

    def evaluate(
        self,
        task: Task | GenerationTask,
        *,
        batch_size: int,
        on_progress: Callable[[int], None] | None = None,
    ) -> TaskResult:
        """Score a task.

        Parameters
        ----------
        task : Task or GenerationTask
        batch_size : int
            Sequences of one prefill (generation tasks go one by one).
        on_progress : callable or None
            Called with the number of sequences just finished.
        """
        if isinstance(task, GenerationTask):
            return self._evaluate_generation(task, on_progress)
        if self.model.config.is_encoder_decoder:
            raise ValueError(
                f"task {task.name!r} scores continuations and needs a decoder; for an "
                f"encoder-decoder take xsum:FILE"
            )
        scorer = task.scorer()
        for batch in task.batches(batch_size):
            logprobs, hits = self._score(batch)
            scorer.add(batch, logprobs, hits)
            if on_progress is not None:
                on_progress(len(batch.input_ids))
        return scorer.result()

    def _encode(self, prompt: str | Sequence[int]) -> torch.Tensor:
        ids = self._ids(prompt) if isinstance(prompt, str) else list(prompt)
        if not ids:
            raise ValueError("the prompt is empty; give at least one word")
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit is not None and len(ids) >= limit:
            raise ValueError(
                f"the prompt has {len(ids)} tokens, the model's context ends at {limit}; shorten it"
            )
        return torch.tensor([ids])

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        bos = self.tokenizer.bos_token_id
        return ids if bos is None or self.model.config.is_encoder_decoder else [bos, *ids]

    def _score(self, batch: Batch) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Log-probability of every token given its prefix, and whether it was the likeliest."""
        ids = torch.from_numpy(batch.input_ids)
        with torch.inference_mode():
            logits = self.model(
                input_ids=ids, attention_mask=torch.from_numpy(batch.attention_mask)
            ).logits
            logits = logits[:, :-1].float()  # [B, S-1, V]; position s predicts token s+1
            target = ids[:, 1:, None]  # [B, S-1, 1]
            chosen = logits.gather(-1, target)[..., 0] - logits.logsumexp(-1)
            hits = logits.argmax(-1) == ids[:, 1:]
        logprobs = np.zeros(batch.input_ids.shape, dtype=np.float64)
        token_hits = np.zeros(batch.input_ids.shape, dtype=bool)
        logprobs[:, 1:] = chosen.numpy()
        token_hits[:, 1:] = hits.numpy()
        return logprobs, token_hits

    def _evaluate_generation(
        self, task: GenerationTask, on_progress: Callable[[int], None] | None
    ) -> TaskResult:
        texts = []
        for prompt in task.prompts:
            texts.append(self.generate(prompt, max_new_tokens=SUMMARY_TOKENS))
            if on_progress is not None:
                on_progress(1)
        return task.score(texts)


class _Streamer(TextStreamer):  # type: ignore[misc]
    def __init__(self, tokenizer: Any, on_text: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._on_text = on_text

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Pass on a piece of text that is final."""
        if text:
            self._on_text(text)
