"""Detection of steps and of real rows, on torch's own hooks."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import numpy as np
import pytest
import torch

from siftmoe.coordinator.model.steps import StepHooks


class Noting:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def begin_step(self, *, tokens: int, prefill: bool) -> None:
        self.said.append(("begin", tokens, prefill))

    def end_step(self, *, failed: bool) -> None:
        self.said.append(("end", failed))


class Model(torch.nn.Module):
    """Calls back where an expert layer would run; its encoder does too."""

    def __init__(self, *, encoder: Model | None = None) -> None:
        super().__init__()
        self.config = type("Config", (), {"is_encoder_decoder": encoder is not None})()
        self.encoder = encoder
        self.inside: Any = lambda: None

    def get_encoder(self) -> Model | None:
        return self.encoder

    def forward(self, input_ids: Any = None, **inputs: Any) -> str:
        if self.encoder is not None and input_ids is not None:
            self.encoder(input_ids=input_ids, attention_mask=inputs.get("attention_mask"))
        self.inside()
        return "logits"


def ids(sequences: int, length: int) -> torch.Tensor:
    return torch.ones((sequences, length), dtype=torch.int64)


@pytest.fixture
def listener() -> Noting:
    return Noting()


@pytest.mark.parametrize(
    ("inputs", "tokens", "prefill"),
    [
        ({"input_ids": ids(2, 5)}, 10, True),
        ({"input_ids": ids(2, 1)}, 2, False),
        ({"input_ids": ids(2, 3), "attention_mask": torch.tensor([[1, 1, 1], [1, 0, 0]])}, 4, True),
        ({"input_ids": ids(1, 1), "attention_mask": ids(1, 9)}, 1, False),
        ({"input_ids": ids(1, 3), "attention_mask": torch.ones(1, 1, 3, 3)}, 3, True),
        ({"input_ids": ids(1, 3), "attention_mask": {"full": ids(1, 3)}}, 3, True),
        ({"inputs_embeds": torch.zeros(1, 4, 8)}, 4, True),
    ],
)
def test_a_pass_is_a_step(
    listener: Noting, inputs: dict[str, Any], tokens: int, prefill: bool
) -> None:
    model = Model()
    StepHooks(model, listener)
    model(**inputs)
    assert listener.said == [("begin", tokens, prefill), ("end", False)]


def test_padding_is_no_row(listener: Noting) -> None:
    model = Model()
    hooks = StepHooks(model, listener)
    seen: list[Any] = []
    model.inside = lambda: seen.append((hooks.real_rows(6), hooks.real_rows(5)))
    model(input_ids=ids(2, 3), attention_mask=torch.tensor([[1, 1, 1], [1, 0, 0]]))
    ((rows, of_another_count),) = seen
    assert rows.tolist() == [True, True, True, True, False, False]
    assert of_another_count is None
    assert hooks.real_rows(6) is None


def test_without_padding_every_row_is_a_token(listener: Noting) -> None:
    model = Model()
    hooks = StepHooks(model, listener)
    model.inside = lambda: np.testing.assert_equal(hooks.real_rows(3), None)
    model(ids(1, 3))
    model(input_ids=ids(1, 3), attention_mask=ids(1, 3))
    assert listener.said == [("begin", 3, True), ("end", False)] * 2


def test_a_pass_that_fails_is_told(listener: Noting) -> None:
    model = Model()
    StepHooks(model, listener)

    def fail() -> None:
        raise RuntimeError("agent gone")

    model.inside = fail
    with pytest.raises(RuntimeError, match="agent gone"):
        model(ids(1, 3))
    model.inside = lambda: None
    model(ids(1, 1))
    assert listener.said == [("begin", 3, True), ("end", True), ("begin", 1, False), ("end", False)]


def test_a_pass_that_was_interrupted_ends_when_the_next_begins(listener: Noting) -> None:
    model = Model()
    hooks = StepHooks(model, listener)

    def interrupt() -> None:
        raise KeyboardInterrupt

    model.inside = interrupt
    with pytest.raises(KeyboardInterrupt):
        model(input_ids=ids(1, 3), attention_mask=torch.tensor([[1, 1, 0]]))
    seen: list[Any] = []
    model.inside = lambda: seen.append(hooks.real_rows(3))
    model(ids(1, 3))
    assert seen == [None]
    assert listener.said == [("begin", 2, True), ("end", True), ("begin", 3, True), ("end", False)]


def test_an_encoder_inside_belongs_to_the_pass(listener: Noting) -> None:
    encoder = Model()
    model = Model(encoder=encoder)
    hooks = StepHooks(model, listener)
    seen: list[Any] = []
    encoder.inside = lambda: seen.append(("encoder", hooks.real_rows(3)))
    model.inside = lambda: seen.append(("decoder", hooks.real_rows(3)))
    model(
        input_ids=ids(1, 3),
        attention_mask=torch.tensor([[1, 1, 0]]),
        decoder_input_ids=ids(1, 3),
    )
    assert listener.said == [("begin", 3, True), ("end", False)]
    assert [(name, None if rows is None else rows.tolist()) for name, rows in seen] == [
        ("encoder", [True, True, False]),
        ("decoder", None),
    ]


def test_padding_of_a_decoder_is_its_own(listener: Noting) -> None:
    model = Model(encoder=Model())
    hooks = StepHooks(model, listener)
    seen: list[Any] = []
    model.inside = lambda: seen.append(hooks.real_rows(2))
    model(
        input_ids=ids(1, 2),
        attention_mask=ids(1, 2),
        decoder_input_ids=ids(1, 2),
        decoder_attention_mask=torch.tensor([[1, 0]]),
    )
    assert [rows.tolist() for rows in seen] == [[True, False]]
    assert listener.said == [("begin", 1, True), ("end", False)]


def test_an_encoder_alone_is_a_step(listener: Noting) -> None:
    model = Model(encoder=Model())
    StepHooks(model, listener)
    model.get_encoder()(input_ids=ids(1, 7))
    model(decoder_input_ids=ids(1, 1))
    assert listener.said == [
        ("begin", 7, True),
        ("end", False),
        ("begin", 1, False),
        ("end", False),
    ]


def test_nothing_is_followed_after_removal(listener: Noting) -> None:
    model = Model()
    StepHooks(model, listener).remove()
    model(ids(1, 3))
    assert listener.said == []


def test_a_base_model_alone_is_a_step_and_within_a_pass_has_its_rows(listener: Noting) -> None:
    base = Model()
    model = Model()
    model.base_model = base
    hooks = StepHooks(model, listener)
    seen: list[Any] = []
    base.inside = lambda: seen.append(hooks.real_rows(3))
    base(ids(1, 3))
    model.inside = lambda: base(inputs_embeds=torch.zeros(1, 3, 8))
    model(input_ids=ids(1, 3), attention_mask=torch.tensor([[0, 1, 1]]))
    assert listener.said == [("begin", 3, True), ("end", False), ("begin", 2, True), ("end", False)]
    assert seen[0] is None
    assert seen[1].tolist() == [False, True, True]


def in_thread(work: Any) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_two_passes_at_once_wait_for_each_other(listener: Noting) -> None:
    model = Model()
    hooks = StepHooks(model, listener)
    inside, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        assert hooks.running()
        inside.set()
        assert go_on.wait(20.0)

    model.inside = hold
    first = in_thread(lambda: model(ids(1, 3)))
    assert inside.wait(20.0)
    assert not hooks.running()  # that is the other thread's pass
    model.inside = lambda: None
    second = in_thread(lambda: model(ids(1, 1)))
    second.join(0.2)
    assert second.is_alive()
    go_on.set()
    first.join(20.0)
    second.join(20.0)
    assert listener.said == [
        ("begin", 3, True),
        ("end", False),
        ("begin", 1, False),
        ("end", False),
    ]


def test_a_thread_that_died_in_its_pass_holds_nobody_up(listener: Noting) -> None:
    model = Model()
    StepHooks(model, listener)

    def leave() -> None:
        raise SystemExit  # as an interrupt: torch calls no hook

    def run() -> None:
        with contextlib.suppress(SystemExit):
            model(ids(1, 3))

    model.inside = leave
    in_thread(run).join(20.0)
    model.inside = lambda: None
    model(ids(1, 1))
    assert listener.said == [("begin", 3, True), ("end", True), ("begin", 1, False), ("end", False)]


def test_an_interrupt_that_is_told_of_lets_other_threads_go_on(listener: Noting) -> None:
    model = Model()
    hooks = StepHooks(model, listener)

    def interrupt() -> None:
        hooks.interrupted()
        raise KeyboardInterrupt

    model.inside = interrupt
    with pytest.raises(KeyboardInterrupt):
        model(ids(1, 3))
    model.inside = lambda: None
    other = in_thread(lambda: model(ids(1, 1)))
    other.join(20.0)
    assert not other.is_alive()
    assert listener.said == [("begin", 3, True), ("end", True), ("begin", 1, False), ("end", False)]
