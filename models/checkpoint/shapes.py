"""Compares the shapes of a checkpoint's tensors with the parameters of its configuration.

Conversions are applied to tensors on the meta device, so no weights are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from siftmoe.models.checkpoint.names import check_expert_count
from siftmoe.models.errors import CheckpointMismatch

if TYPE_CHECKING:
    from siftmoe.models.checkpoint.files import CheckpointFiles
    from siftmoe.models.checkpoint.headers import TensorHeader
    from siftmoe.models.checkpoint.layers import MoELayer
    from siftmoe.models.checkpoint.names import Source


def check_shapes(
    files: CheckpointFiles,
    headers: dict[str, TensorHeader],
    sources: dict[str, Source],
    layers: list[MoELayer],
    *,
    model: Any,
) -> None:
    """Refuse a checkpoint with a tensor whose shape does not fit its parameter.

    Raises
    ------
    CheckpointMismatch
        Names the first such parameter, both shapes, and a tensor that makes it.
    """
    experts = {
        f"{layer.name}.{name}": layer.num_experts
        for layer in layers
        if layer.adapter is None
        for name in layer.fused_parameters
    }
    state = model.state_dict()
    for target, source in sources.items():
        if target in experts:
            check_expert_count(source, experts[target])
        for name, tensor in _converted(source, headers, model).items():
            if name in state and tensor.shape != state[name].shape:
                raise CheckpointMismatch(
                    f"checkpoint {str(files.root)!r}: {name!r} has shape {list(tensor.shape)} on "
                    f"disk ({source.names[0]!r}), its configuration asks for "
                    f"{list(state[name].shape)}; config.json belongs to another model or the "
                    f"weights to another format: fetch both again"
                )


def _converted(
    source: Source, headers: dict[str, TensorHeader], model: Any
) -> dict[str, torch.Tensor]:
    tensors = {
        pattern: [torch.empty(headers[name].shape, device="meta") for name in names]
        for pattern, names in source.patterns.items()
    }
    return source.convert(tensors, model=model)
