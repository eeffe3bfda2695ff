"""A session on an undivided model: answers and scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from siftmoe.coordinator.model.session import REPETITION_PENALTY, Session
from siftmoe.models.tasks.evaluation import load_task
from siftmoe.models.tiny.files import checkpoint_dir

PROMPT = "Return the number of"


@pytest.fixture(scope="module")
def session() -> Session:
    folder = checkpoint_dir("scratch")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return Session(model, transformers.AutoTokenizer.from_pretrained(folder))


def test_what_is_streamed_is_the_answer(session: Session) -> None:
    pieces: list[str] = []
    answer = session.generate(PROMPT, max_new_tokens=12, on_text=pieces.append)
    assert "".join(pieces) == answer
    assert len(pieces) > 1
    assert PROMPT not in answer
    assert answer == session.generate(PROMPT, max_new_tokens=12)


def test_tokens_are_taken_as_they_are(session: Session) -> None:
    tokenizer = session.tokenizer
    ids = tokenizer.encode(PROMPT, add_special_tokens=False)
    answer = session.generate([tokenizer.bos_token_id, *ids], max_new_tokens=6)
    assert answer == session.generate(PROMPT, max_new_tokens=6)
    with pytest.raises(ValueError, match="the prompt is empty"):
        session.generate([], max_new_tokens=6)


def test_the_answer_is_the_likeliest_token_by_token(session: Session) -> None:
    """By hand and without a cache, one token after the other."""
    tokenizer = session.tokenizer
    ids = [tokenizer.bos_token_id, *tokenizer.encode(PROMPT, add_special_tokens=False)]
    start = len(ids)
    for _ in range(6):
        with torch.no_grad():
            logits = session.model(input_ids=torch.tensor([ids])).logits[0, -1].double()
        seen = torch.tensor(sorted(set(ids)))
        factor = torch.where(logits[seen] > 0, 1 / REPETITION_PENALTY, REPETITION_PENALTY)
        logits[seen] *= factor
        ids.append(int(logits.argmax()))
    wanted = tokenizer.decode(ids[start:], skip_special_tokens=True)
    assert session.generate(PROMPT, max_new_tokens=6) == wanted


def test_scores_are_those_of_each_sequence_alone(session: Session) -> None:
    task = load_task("choice", tokenizer=session.tokenizer, limit=3)
    done: list[int] = []
    result = session.evaluate(task, batch_size=5, on_progress=done.append)
    assert sum(done) == len(task.sequences)
    assert len(done) > 1
    alone = session.evaluate(task, batch_size=1)
    assert result.metrics.keys() == alone.metrics.keys()
    for name, metric in result.metrics.items():
        assert metric.value == pytest.approx(alone.metrics[name].value, rel=1e-5)


def test_perplexity_is_the_models_loss(session: Session) -> None:
    task = load_task("perplexity", tokenizer=session.tokenizer, limit=2)
    total, count = 0.0, 0
    for sequence in task.sequences:
        ids = torch.tensor([sequence.tokens])
        labels = ids.clone()
        labels[0, : max(1, sequence.target_start)] = -100
        targets = int((labels[0, 1:] != -100).sum())
        with torch.inference_mode():
            total += targets * float(session.model(input_ids=ids, labels=labels).loss)
        count += targets
    metrics = session.evaluate(task, batch_size=4).metrics
    assert metrics["perplexity"].value == pytest.approx(np.exp(total / count), rel=1e-4)
    assert 0.0 < metrics["next_token_accuracy"].value < 1.0


def test_a_prompt_beyond_the_context_is_told(session: Session) -> None:
    limit = session.model.config.max_position_embeddings
    with pytest.raises(ValueError, match=rf"context ends at {limit}; shorten it"):
        session.generate("word " * (2 * limit), max_new_tokens=1)


def test_an_empty_prompt_is_told_where_nothing_stands_for_it(session: Session) -> None:
    class WithoutStart:
        bos_token_id = None

        def __call__(self, text: str, **_: Any) -> Any:
            return session.tokenizer(text, add_special_tokens=False)

    with pytest.raises(ValueError, match="the prompt is empty"):
        Session(session.model, WithoutStart()).generate("", max_new_tokens=1)
