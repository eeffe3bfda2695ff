"""Gives a user's own model its experts back after it was attached."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from siftmoe.models.checkpoint.layers import find_moe_layers

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def restored(model: Any) -> Iterator[None]:
    """Leave a model's expert layers as they were when the block began.

    Parameters
    ----------
    model : transformers.PreTrainedModel

    Raises
    ------
    UnsupportedArchitecture
        If the model has no mixture-of-experts layer that the library or the adapter knows.
    """
    modules = {layer.name: layer.module for layer in find_moe_layers(model)}
    implementation = model.get_experts_implementation()
    try:
        yield
    finally:
        for name, module in modules.items():
            if model.get_submodule(name) is not module:
                parent, _, attribute = name.rpartition(".")
                setattr(model.get_submodule(parent), attribute, module)
        if model.get_experts_implementation() != implementation:
            model.set_experts_implementation(implementation)
