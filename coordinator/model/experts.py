"""The Hugging Face experts implementation ``siftmoe``: replaces the experts of a model.

No other module changes the model. A mixture-of-experts layer keeps its own router; the routed
experts and their weights are passed to a `LayerOutput`, which returns the weighted sum of the
experts' outputs. Every family of the library's experts registry takes this path; Switch
Transformers, which predates it, gets one adapter module. Outputs are not differentiable: a backward
pass through them raises RuntimeError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from siftmoe.coordinator.model.routers import logits_of, watch_routers
from siftmoe.models.checkpoint.layers import find_moe_layers

if TYPE_CHECKING:
    from siftmoe.coordinator.layer.parts import LayerOutput
    from siftmoe.models.checkpoint.layers import MoELayer

IMPLEMENTATION = "siftmoe"
_ATTRIBUTE = "_siftmoe_route"


def attach(model: Any, experts: LayerOutput, *, with_logits: bool = False) -> int:
    """Route every mixture-of-experts layer of a model to ``experts``.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Its expert parameters may be on the meta device; they are not touched.
    experts : LayerOutput
    with_logits : bool
        Pass the logits of each layer's router to it too, as ``router_logits`` (T, E).

    Returns
    -------
    int
        Number of layers attached.

    Raises
    ------
    UnsupportedArchitecture
        If the model has no mixture-of-experts layer that the library or the adapter knows, or
        logits are wanted and a layer's router gives none.
    """
    layers = find_moe_layers(model)
    for layer in layers:
        if isinstance(layer.module, _OneHotExperts):
            layer.module.experts = experts
        elif layer.adapter is not None:
            _replace(model, layer.name, _OneHotExperts(layer, experts))
        else:
            setattr(layer.module, _ATTRIBUTE, (layer.index, experts))
    if any(hasattr(layer.module, _ATTRIBUTE) for layer in layers):
        model.set_experts_implementation(IMPLEMENTATION)
    watch_routers(model, layers if with_logits else [])
    return len(layers)


def _replace(model: Any, name: str, module: torch.nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, module)


def _registered_experts(
    module: Any, hidden_states: Any, top_k_index: Any, top_k_weights: Any
) -> Any:
    """Serve one experts module; the signature is the registry's."""
    layer, experts = getattr(module, _ATTRIBUTE)
    return _run(
        experts, layer, hidden_states, top_k_index, top_k_weights, logits_of(module, hidden_states)
    )


class _OneHotExperts(torch.nn.Module):
    """Experts of Switch Transformers: one-hot routing, all-zero rows for dropped tokens."""

    def __init__(self, layer: MoELayer, experts: LayerOutput) -> None:
        super().__init__()
        self.replaces_experts = type(layer.module).__name__
        self.layer = layer.index
        self.num_experts = layer.num_experts
        self.experts = experts

    def forward(self, hidden_states: Any, selected_experts: Any, routing_weights: Any) -> Any:
        index = selected_experts.argmax(dim=-1)  # [T, 1, E] -> [T, 1]
        dropped = selected_experts.sum(dim=-1) == 0
        index = torch.where(dropped, self.num_experts, index)
        logits = logits_of(self, hidden_states)
        return _run(self.experts, self.layer, hidden_states, index, routing_weights, logits)


class _NotDifferentiable(torch.autograd.Function):
    """Passes the helpers' output on; a backward pass through it is an error, not a zero."""

    @staticmethod
    def forward(_ctx: Any, output: Any, _hidden: Any, _weights: Any) -> Any:
        return output.view_as(output)

    @staticmethod
    def backward(_ctx: Any, *_gradients: Any) -> Any:
        raise RuntimeError(
            "backward through an expert layer that helpers serve: they return outputs, no "
            "gradients, so those of everything below would be wrong; train the undivided model, or "
            "run under torch.no_grad()"
        )


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _run(
    experts: Any, layer: int, hidden: Any, index: Any, weights: Any, logits: Any = None
) -> Any:
    more = {} if logits is None else {"router_logits": logits}
    output = experts(
        layer,
        np.ascontiguousarray(hidden.detach().to("cpu", torch.float32).numpy()),
        routed_experts=index.detach().to("cpu", torch.int64).numpy(),
        gate_weights=weights.detach().to("cpu", torch.float64).numpy(),
        **more,
    )
    result = torch.from_numpy(output).to(hidden.device, hidden.dtype)
    if torch.is_grad_enabled() and (hidden.requires_grad or weights.requires_grad):
        return _NotDifferentiable.apply(result, hidden, weights)  # type: ignore[no-untyped-call]
    return result


if IMPLEMENTATION not in ALL_EXPERTS_FUNCTIONS:
    ALL_EXPERTS_FUNCTIONS.register(IMPLEMENTATION, _registered_experts)
