"""Logits of routers: of every family, of the rows that were routed, and only when asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, build_model

from siftmoe.coordinator.model.experts import attach
from siftmoe.coordinator.model.routers import _HOOK
from siftmoe.models.checkpoint.layers import find_moe_layers
from siftmoe.models.errors import UnsupportedArchitecture

TOKENS = torch.arange(3, 11)[None, :]


class Listener:
    """A layer output of zeros that remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[dict[str, Any]] = []

    def __call__(self, layer: int, hidden: Any, **given: Any) -> Any:
        self.given.append({"layer": layer, **given})
        return np.zeros_like(hidden)


def run(model: Any) -> None:
    more = {"decoder_input_ids": TOKENS} if model.config.is_encoder_decoder else {}
    with torch.inference_mode():
        model(TOKENS, **more)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_logits_explain_the_routing(family: str) -> None:
    model, heard = build_model(family), Listener()
    layers = attach(model, heard, with_logits=True)
    run(model)
    assert len(heard.given) == layers
    for given in heard.given:
        logits, routed = given["router_logits"], given["routed_experts"]
        assert logits.shape[0] == routed.shape[0]
        assert logits.dtype == np.float64
        here = routed < logits.shape[1]
        best = np.argmax(logits, axis=1)
        if family not in ("deepseek_v3", "nemotron_h"):  # groups and a correction decide there
            assert all(best[t] in routed[t] for t in np.flatnonzero(here.any(axis=1)))


def test_nobody_asks_and_nothing_is_kept() -> None:
    model, heard = build_model("mixtral"), Listener()
    attach(model, heard, with_logits=True)
    attach(model, heard)
    run(model)
    assert all("router_logits" not in given for given in heard.given)
    assert not any(_HOOK in module.__dict__ for module in model.modules())


def test_a_layer_without_a_router_is_named() -> None:
    model = build_model("mixtral")
    name = find_moe_layers(model)[0].name.rpartition(".")[0]
    block = model.get_submodule(name)
    block.scorer = block.gate
    del block.gate
    with pytest.raises(UnsupportedArchitecture, match="has no router named gate or router"):
        attach(model, Listener(), with_logits=True)
