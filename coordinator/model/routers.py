"""Logits of a model's routers, for policies that ask for them.

A router is the module beside the experts whose output has one number per expert. A hook keeps its
logits for the experts module that runs right after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from siftmoe.models.errors import UnsupportedArchitecture

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from siftmoe.models.checkpoint.layers import MoELayer

#: Names of routers beside the experts, in the families of the library.
_NAMES = ("gate", "router")
#: Place of the logits in what a router returns: of the registry's families, and of adapted ones.
_FIRST, _LAST = 0, -1
_LOGITS, _HOOK = "_siftmoe_logits", "_siftmoe_logits_hook"


def watch_routers(model: Any, layers: Sequence[MoELayer]) -> None:
    """Keep the logits of these layers' routers; those of all other layers no longer.

    Raises
    ------
    UnsupportedArchitecture
        If a layer has no module beside its experts that is named as routers are.
    """
    for module in model.modules():
        if (hook := module.__dict__.pop(_HOOK, None)) is not None:
            hook.remove()
        module.__dict__.pop(_LOGITS, None)
    for layer in layers:
        block = model.get_submodule(layer.name.rpartition(".")[0])
        router = next((getattr(block, name, None) for name in _NAMES if hasattr(block, name)), None)
        if not isinstance(router, torch.nn.Module):
            raise UnsupportedArchitecture(
                f"layer {layer.name!r} has no router named {' or '.join(_NAMES)} beside its "
                f"experts, so a policy cannot read its logits; take another policy"
            )
        experts = model.get_submodule(layer.name)  # an adapted one was replaced
        at = _FIRST if layer.adapter is None else _LAST
        router.__dict__[_HOOK] = router.register_forward_hook(_keeper(experts, at))


def _keeper(experts: Any, at: int) -> Any:
    def keep(_router: Any, _given: Any, output: Any) -> None:
        experts.__dict__[_LOGITS] = output[at] if isinstance(output, tuple) else output

    return keep


def logits_of(experts: Any, hidden: Any) -> NDArray[np.float64] | None:
    """Logits of the router that ran before an experts module, (T, E); None if nobody asked.

    Raises
    ------
    UnsupportedArchitecture
        If they were asked for, and the router gives nothing of one number per token and expert.
    """
    if _LOGITS not in experts.__dict__:
        return None
    logits = experts.__dict__.pop(_LOGITS)
    rows = hidden.shape[:-1].numel()
    if not torch.is_tensor(logits) or logits.shape[:-1].numel() != rows:
        raise UnsupportedArchitecture(
            "a router gives no logits of one number per token and expert; take another policy"
        )
    found: NDArray[np.float64] = (
        logits.detach().to("cpu", torch.float64).reshape(rows, logits.shape[-1]).numpy()
    )
    return found
