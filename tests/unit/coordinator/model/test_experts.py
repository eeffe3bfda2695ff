"""Attached expert layers inside a model: gradients, compiled models, parts of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from families import build_model

from siftmoe.coordinator.model.experts import attach

if TYPE_CHECKING:
    from numpy.typing import NDArray

IDS = torch.tensor([[3, 7, 5, 9]])


def doubled(
    _layer: int,
    hidden: NDArray[np.float32],
    *,
    routed_experts: NDArray[np.int64],
    gate_weights: NDArray[np.float64],
) -> NDArray[np.float32]:
    assert routed_experts.shape == gate_weights.shape
    return 2.0 * hidden


@pytest.fixture(params=["mixtral", "switch"])
def model(request: pytest.FixtureRequest) -> Any:
    model = build_model(request.param)
    attach(model, doubled)
    return model


def inputs(model: Any) -> dict[str, Any]:
    both = {"input_ids": IDS, "decoder_input_ids": IDS}
    return both if model.config.is_encoder_decoder else {"input_ids": IDS}


def test_a_backward_pass_is_an_error_and_not_a_wrong_gradient(model: Any) -> None:
    logits = model(**inputs(model)).logits
    with pytest.raises(RuntimeError, match="no gradients"):
        logits.sum().backward()


def test_without_gradients_nothing_changes(model: Any) -> None:
    logits = model(**inputs(model)).logits
    with torch.no_grad():
        plain = model(**inputs(model)).logits
    with torch.inference_mode():
        inferred = model(**inputs(model)).logits
    assert logits.requires_grad
    assert not plain.requires_grad
    torch.testing.assert_close(logits.detach(), plain)
    torch.testing.assert_close(inferred, plain)
