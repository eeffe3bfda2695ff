"""The expert layers of a Hugging Face model, found by the experts registry instead of by family.

Every experts module of transformers 5 is decorated with ``use_experts_implementation``, which sets
flags for the layout of its fused weights: ``has_gate``, ``has_bias``, ``is_transposed``,
``is_concatenated``. Switch Transformers predates the registry: the only entry of ``ADAPTERS``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from siftmoe.models.errors import UnsupportedArchitecture

if TYPE_CHECKING:
    from torch import nn

REGISTRY_FLAGS = ("has_gate", "has_bias", "is_transposed", "is_concatenated")

#: Configuration keys under which families store the number of experts per token.
_TOP_K_KEYS = ("num_experts_per_tok", "top_k_experts", "moe_topk", "moe_k")


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """The layout of an experts class that is not in the registry: one module per expert.

    ``up`` and ``down`` name the two linear modules of an expert, ``activation`` the attribute
    with its nonlinearity; the router selects ``top_k`` experts.
    """

    child: str
    up: str
    down: str
    activation: str
    top_k: int


ADAPTERS = {
    "SwitchTransformersExperts": Adapter(
        child="expert_{}", up="wi", down="wo", activation="act", top_k=1
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MoELayer:
    """One layer of experts in a model.

    Parameters
    ----------
    index : int
        Number of the layer in the model's order, expert layers only.
    name : str
        Path of the experts module in the model.
    module : torch.nn.Module
        The experts module; its parameters may be on the meta device.
    adapter : Adapter or None
        None for a module of the experts registry.
    """

    index: int
    name: str
    module: nn.Module
    adapter: Adapter | None = None

    @property
    def fused_parameters(self) -> tuple[str, ...]:
        """Names of the parameters that hold all experts, in a registry module."""
        up = "gate_up_proj" if flag(self.module, "has_gate") else "up_proj"
        names = (up, "down_proj")
        return (*names, f"{up}_bias", "down_proj_bias") if flag(self.module, "has_bias") else names

    @property
    def num_experts(self) -> int:
        """Number of experts E."""
        if self.adapter is not None:
            return len(list(self.module.children()))
        return int(self.module.get_parameter("down_proj").shape[0])

    @property
    def sizes(self) -> tuple[int, int]:
        """Width d of an expert's input and output, and width I of its hidden layer."""
        if self.adapter is not None:
            first = self.module.get_submodule(self.adapter.child.format(0))
            inner, outer = first.get_parameter(f"{self.adapter.up}.weight").shape
            return int(outer), int(inner)
        shape = self.module.get_parameter("down_proj").shape[1:]
        inner, outer = shape if flag(self.module, "is_transposed") else reversed(shape)
        return int(outer), int(inner)


def flag(module: nn.Module, name: str) -> bool:
    """Value of one of the registry's flags."""
    value: Any = getattr(module, name)
    return bool(value)


def find_moe_layers(model: nn.Module) -> list[MoELayer]:
    """Find a model's expert layers in order; the model may be loaded or on the meta device.

    Raises
    ------
    UnsupportedArchitecture
        If there are none, or a module of the registry has parameters that siftmoe cannot read.
    """
    layers: list[MoELayer] = []
    for name, module in model.named_modules():
        # a module that replaces an adapted one names the class that it replaces
        adapter = ADAPTERS.get(getattr(module, "replaces_experts", type(module).__name__))
        if adapter is None and not all(hasattr(module, flag) for flag in REGISTRY_FLAGS):
            continue
        layer = MoELayer(index=len(layers), name=name, module=module, adapter=adapter)
        _check_readable(layer)
        layers.append(layer)
    if not layers:
        raise UnsupportedArchitecture(
            f"{type(model).__name__} has no experts: looked for modules of transformers' experts "
            f"registry (with {', '.join(REGISTRY_FLAGS)}) and for {', '.join(ADAPTERS)}; siftmoe "
            f"needs a mixture-of-experts model in an architecture that has one of them"
        )
    return layers


def router_top_k(config: Any, layers: list[MoELayer]) -> int:
    """Return the number of experts that the router selects for a token.

    Raises
    ------
    UnsupportedArchitecture
        If the configuration has it under no known key.
    """
    if layers[0].adapter is not None:
        return layers[0].adapter.top_k
    text_config = config.get_text_config()
    for key in _TOP_K_KEYS:
        if isinstance(value := getattr(text_config, key, None), int):
            return value
    raise UnsupportedArchitecture(
        f"the configuration of {text_config.model_type!r} does not say how many experts a token "
        f"gets; looked for {', '.join(_TOP_K_KEYS)}"
    )


def _check_readable(layer: MoELayer) -> None:
    if layer.adapter is not None:
        return
    found = {name for name, _ in layer.module.named_parameters()}
    if found != set(layer.fused_parameters) or getattr(layer.module, "has_post_expert_norm", False):
        raise UnsupportedArchitecture(
            f"experts module {layer.name!r} ({type(layer.module).__name__}) has the parameters "
            f"{', '.join(sorted(found))}; siftmoe reads experts with exactly "
            f"{', '.join(layer.fused_parameters)} and no norm of their own"
        )
