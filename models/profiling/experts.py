"""A bundle's experts in torch: all in memory, or one layer at a time from disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from siftmoe.models.checkpoint.experts import Activation, ExpertWeights, identify_activation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from siftmoe.models.bundle.reader import Bundle
    from siftmoe.models.checkpoint.layers import MoELayer


def read_expert(
    bundle: Bundle, layer: int, expert: int, *, activation: Activation
) -> ExpertWeights:
    """Read an expert's weights back from its ONNX file, whose hash is checked.

    Raises
    ------
    BundleCorrupt
        If the file is missing or damaged.
    """
    import onnx
    from onnx import numpy_helper

    content = bundle.manifest.read_file(bundle.manifest.expert_file(layer, expert))
    graph = onnx.load_model_from_string(content).graph
    arrays = {
        tensor.name: numpy_helper.to_array(tensor).astype(np.float32)
        for tensor in graph.initializer
        if not tensor.name.startswith("number_")
    }
    # projections are stored [in, out]
    parts = {name: np.ascontiguousarray(array.T) for name, array in arrays.items()}
    return ExpertWeights(activation=activation, **parts)


class LayerExperts:
    """The experts of one layer.

    Parameters
    ----------
    experts : sequence of ExpertWeights
    """

    def __init__(self, experts: Sequence[ExpertWeights]) -> None:
        self._experts = [_TorchExpert.of(weights) for weights in experts]

    def __len__(self) -> int:
        return len(self._experts)

    def outputs(self, hidden: Tensor) -> Tensor:
        """Output of every expert for every row, (E, T, d)."""
        return torch.stack([expert(hidden) for expert in self._experts])

    def combine(self, hidden: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum of the routed experts, (T, d); only they are computed.

        Parameters
        ----------
        hidden : (T, d)
        experts : (T, K) int64
            E marks an empty slot.
        weights : (T, K)
        """
        output = torch.zeros_like(hidden)
        for number, expert in enumerate(self._experts):
            token, slot = torch.where(experts == number)
            if len(token):
                part = expert(hidden[token]) * weights[token, slot, None].to(hidden.dtype)
                output = output.index_add(0, token, part)
        return output


class ExpertStore:
    """Experts by layer.

    Parameters
    ----------
    bundle : Bundle
    layers : sequence of MoELayer
        Expert layers of the bundle's backbone, from which the activation is found.
    max_bytes : int
        All experts are kept in memory if they need no more in float32; otherwise every call of
        `layer` reads its experts from disk, and only one layer's experts are in memory.
    """

    def __init__(self, bundle: Bundle, layers: Sequence[MoELayer], *, max_bytes: int) -> None:
        self._bundle = bundle
        self._activation = identify_activation(layers[0])
        self.resident = fits_in_memory(bundle, max_bytes=max_bytes)
        self._kept: dict[int, LayerExperts] = {}

    def layer(self, layer: int) -> LayerExperts:
        """Experts of a layer."""
        if layer in self._kept:
            return self._kept[layer]
        experts = LayerExperts(
            [
                read_expert(self._bundle, layer, expert, activation=self._activation)
                for expert in range(self._bundle.shape.num_experts)
            ]
        )
        if self.resident:
            self._kept[layer] = experts
        return experts


def fits_in_memory(bundle: Bundle, *, max_bytes: int) -> bool:
    """Whether all experts of a bundle need at most ``max_bytes`` in float32."""
    shape = bundle.shape
    count = shape.num_layers * shape.num_experts
    return count * shape.expert_num_bytes("float32") <= max_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _TorchExpert:
    up: Tensor
    down: Tensor
    gate: Tensor | None
    up_bias: Tensor | None
    gate_bias: Tensor | None
    down_bias: Tensor | None
    activation: Activation

    @classmethod
    def of(cls, weights: ExpertWeights) -> _TorchExpert:
        def tensor(array: NDArray[np.float32] | None) -> Tensor | None:
            return None if array is None else torch.from_numpy(array)

        return cls(
            up=torch.from_numpy(weights.up),
            down=torch.from_numpy(weights.down),
            gate=tensor(weights.gate),
            up_bias=tensor(weights.up_bias),
            gate_bias=tensor(weights.gate_bias),
            down_bias=tensor(weights.down_bias),
            activation=weights.activation,
        )

    def __call__(self, hidden: Tensor) -> Tensor:
        up = functional.linear(hidden, self.up, self.up_bias)  # [T, I]
        gate = up if self.gate is None else functional.linear(hidden, self.gate, self.gate_bias)
        return functional.linear(self.activation.apply(gate, up), self.down, self.down_bias)
