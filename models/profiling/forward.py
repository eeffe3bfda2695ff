"""Runs a backbone with a torch function in place of its expert layers.

The function is attached like the coordinator's hook: by the experts registry of transformers, or by
an adapter module for Switch Transformers. Unlike in that hook, outputs stay in torch's graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from siftmoe.models.checkpoint.layers import find_moe_layers

if TYPE_CHECKING:
    from torch import Tensor

    from siftmoe.models.checkpoint.layers import MoELayer

_IMPLEMENTATION = "siftmoe-profile"
_ATTRIBUTE = "_siftmoe_profiled"


class LayerFunction(Protocol):
    """A function that computes an expert layer."""

    def __call__(self, layer: int, hidden: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """Return the layer's output, (T, d).

        Parameters
        ----------
        layer : int
        hidden : (T, d)
        experts : (T, K) int64
            Routed experts; the number of experts marks an empty slot.
        weights : (T, K)
        """


class ProfiledModel:
    """A backbone whose expert layers are computed by ``function``, which may be replaced.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A bundle's backbone. It is modified and must not be used elsewhere.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.layers = find_moe_layers(model)
        self.function: LayerFunction | None = None
        for layer in self.layers:
            if layer.adapter is not None:
                parent, _, name = layer.name.rpartition(".")
                setattr(model.get_submodule(parent), name, _OneHotExperts(layer, self))
            else:
                setattr(layer.module, _ATTRIBUTE, (layer.index, self))
        if any(layer.adapter is None for layer in self.layers):
            model.set_experts_implementation(_IMPLEMENTATION)

    @property
    def encoder_decoder(self) -> bool:
        """Whether the model has an encoder and a decoder."""
        return bool(self.model.config.is_encoder_decoder)

    def in_encoder(self, layer: int) -> bool:
        """Whether an expert layer belongs to the encoder."""
        return self.encoder_decoder and "encoder" in self.layers[layer].name.split(".")

    def final_hidden(self, tokens: Tensor) -> Tensor:
        """Last hidden state, the input of the output projection, (B, S', d)."""
        if self.encoder_decoder:
            output = self.model(**self._inputs(tokens), output_hidden_states=True)
            return _tensor(output.decoder_hidden_states[-1])
        return _tensor(self.model.base_model(input_ids=tokens, use_cache=False).last_hidden_state)

    def logits(self, tokens: Tensor) -> Tensor:
        """Logits of the next token at every place, (B, S', V)."""
        return _tensor(self.model(**self._inputs(tokens)).logits)

    def compute(self, layer: int, hidden: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """Compute one layer's rows with the function."""
        if self.function is None:
            raise ValueError("set the function of the expert layers before running the model")
        return self.function(layer, hidden, experts, weights)

    def _inputs(self, tokens: Tensor) -> dict[str, Any]:
        if not self.encoder_decoder:
            return {"input_ids": tokens, "use_cache": False}
        # the encoder gets three quarters of a window, the decoder the rest
        border = max(1, 3 * tokens.shape[1] // 4)
        start = torch.full_like(tokens[:, :1], self.model.config.decoder_start_token_id)
        decoder = torch.cat([start, tokens[:, border:-1]], dim=1)  # [B, S - border]
        return {"input_ids": tokens[:, :border], "decoder_input_ids": decoder, "use_cache": False}


def _registered(module: Any, hidden_states: Any, top_k_index: Any, top_k_weights: Any) -> Any:
    layer, owner = getattr(module, _ATTRIBUTE)
    return owner.compute(layer, hidden_states, top_k_index, top_k_weights)


class _OneHotExperts(torch.nn.Module):
    """Experts of Switch Transformers: one-hot routing, all-zero rows for dropped tokens."""

    def __init__(self, layer: MoELayer, owner: ProfiledModel) -> None:
        super().__init__()
        self._layer = layer.index
        self._num_experts = layer.num_experts
        self._owner = [owner]  # a list keeps torch from registering the model inside itself

    def forward(self, hidden: Tensor, selected: Tensor, weights: Tensor) -> Tensor:
        index = selected.argmax(dim=-1)  # [T, 1, E] -> [T, 1]
        dropped = selected.sum(dim=-1) == 0
        index = torch.where(dropped, self._num_experts, index)
        return self._owner[0].compute(self._layer, hidden, index, weights)


def _tensor(value: Any) -> Tensor:
    result: Tensor = value
    return result


if _IMPLEMENTATION not in ALL_EXPERTS_FUNCTIONS:
    ALL_EXPERTS_FUNCTIONS.register(_IMPLEMENTATION, _registered)
