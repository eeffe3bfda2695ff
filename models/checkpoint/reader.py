"""Reads the experts and the backbone of a Hugging Face mixture-of-experts checkpoint.

The model is built on the meta device to find its expert layers and the tensors on disk that make
them. Only the requested weights are read.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from siftmoe.models.checkpoint.architecture import build_empty_model
from siftmoe.models.checkpoint.experts import (
    Activation,
    ExpertWeights,
    identify_activation,
    split_fused,
)
from siftmoe.models.checkpoint.files import CheckpointFiles
from siftmoe.models.checkpoint.headers import TensorHeader, read_headers
from siftmoe.models.checkpoint.layers import MoELayer, find_moe_layers, flag, router_top_k
from siftmoe.models.checkpoint.names import Source, map_sources, one_expert, settle_checks
from siftmoe.models.checkpoint.precision import check_precision
from siftmoe.models.checkpoint.quantised.formats import find_quantised
from siftmoe.models.checkpoint.quantised.hints import Hints
from siftmoe.models.checkpoint.quantised.leftovers import is_harmless
from siftmoe.models.checkpoint.quantised.weight import QuantisedWeight, Stored
from siftmoe.models.checkpoint.shapes import check_shapes
from siftmoe.models.errors import CheckpointMismatch, UnsupportedArchitecture
from siftmoe.models.shape import ModelShape

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch

__all__ = ["Checkpoint", "MoELayer", "find_moe_layers"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """An open checkpoint.

    Parameters
    ----------
    files : CheckpointFiles
    model : transformers.PreTrainedModel
        Parameters on the meta device; buffers are real.
    layers : list of MoELayer
    shape : ModelShape
    activation : Activation
        The same for every expert.
    sources : dict of str to Source
        Tensors and conversion of each parameter. A quantised weight counts as one tensor.
    quantised : dict of str to QuantisedWeight
        By the name that the weight has where it is not quantised.
    """

    files: CheckpointFiles
    model: Any
    layers: list[MoELayer]
    shape: ModelShape
    activation: Activation
    sources: dict[str, Source]
    quantised: dict[str, QuantisedWeight] = field(default_factory=dict)

    @classmethod
    def open(cls, model_dir: str | Path) -> Checkpoint:
        """Open a folder as written by ``save_pretrained``; no weights are read.

        Raises
        ------
        CheckpointMismatch
            If files are missing or do not fit the configuration.
        UnsupportedPrecision
            If weights are quantised in a form that is not known, whatever the configuration says.
        UnsupportedArchitecture
            If the model has no experts that siftmoe can find and export.
        """
        files = CheckpointFiles.open(model_dir)
        model = build_empty_model(files.root)
        layers = find_moe_layers(model)
        quantised, headers = _plain_headers(files, layers)
        sources, unused = map_sources(headers, model)
        sources = settle_checks(sources, headers, model=model)
        check_precision(files, headers, sources, unused, model=model, quantised=quantised)
        check_shapes(files, headers, sources, layers, model=model)
        unused = [name for name in unused if not is_harmless(name)]
        if unused:
            _log.warning("%d tensors are not part of the model: %s …", len(unused), unused[0])
        activation = _common([identify_activation(layer) for layer in layers], layers, "activation")
        checkpoint = cls(
            files=files,
            model=model,
            layers=layers,
            shape=_shape(model, layers, activation),
            activation=activation,
            sources=sources,
            quantised=quantised,
        )
        checkpoint._check_complete()
        return checkpoint

    @property
    def expert_parameters(self) -> set[str]:
        """Names of the model's parameters that belong to experts."""
        return expert_parameters(self.model, self.layers)

    def read_fused(self, layer: int, expert: int) -> dict[str, torch.Tensor]:
        """Read one expert in the layout of its module's parameters, with this expert only."""
        moe = self.layers[layer]
        self.shape.check_expert(layer, expert)
        if moe.adapter is not None:
            prefix = f"{moe.name}.{moe.adapter.child.format(expert)}"
            names = (f"{moe.adapter.up}.weight", f"{moe.adapter.down}.weight")
            return {name: self._read(self.sources[f"{prefix}.{name}"]) for name in names}
        return {
            name: one_expert(
                self.sources[f"{moe.name}.{name}"],
                expert,
                num_experts=self.shape.num_experts,
                model=self.model,
                read=self._tensor,
            )
            for name in moe.fused_parameters
        }

    def read_expert(self, layer: int, expert: int) -> ExpertWeights:
        """Read one expert as plain float32 weights; nothing else is read."""
        return self.plain(layer, self.read_fused(layer, expert))

    def plain(self, layer: int, fused: dict[str, torch.Tensor]) -> ExpertWeights:
        """Convert the result of ``read_fused`` to plain weights."""
        adapter = self.layers[layer].adapter
        if adapter is None:
            parts = split_fused(self.layers[layer], fused)
        else:
            parts = {
                "up": fused[f"{adapter.up}.weight"].float().numpy(),
                "down": fused[f"{adapter.down}.weight"].float().numpy(),
            }
        return ExpertWeights(activation=self.activation, **parts)

    def backbone_tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield all parameters except the experts', with their names in the model."""
        experts = self.expert_parameters
        for target, source in self.sources.items():
            if target not in experts:
                tensors = {
                    pattern: [self._tensor(name) for name in names]
                    for pattern, names in source.patterns.items()
                }
                yield from source.convert(tensors, model=self.model).items()

    def _read(self, source: Source) -> torch.Tensor:
        tensors = {
            pattern: [self._tensor(name) for name in names]
            for pattern, names in source.patterns.items()
        }
        return source.convert(tensors, model=self.model)[source.target]

    def _tensor(self, name: str, expert: int | None = None) -> torch.Tensor:
        # a file that stays open would keep the pages that were read resident
        if name in self.quantised:
            return self.quantised[name].decode(self.files.read, expert)
        tensor = self.files.read(name, expert)
        return tensor if expert is None else tensor[None]

    def _check_complete(self) -> None:
        missing = sorted(self.expert_parameters - self.sources.keys())
        if missing:
            raise CheckpointMismatch(
                f"checkpoint {str(self.files.root)!r} lacks the weights of {len(missing)} expert "
                f"parameters that its configuration asks for, first {missing[0]!r}; download or "
                f"copy the checkpoint again"
            )


def _plain_headers(
    files: CheckpointFiles, layers: list[MoELayer]
) -> tuple[dict[str, QuantisedWeight], dict[str, TensorHeader]]:
    """Find the quantised weights, and the headers of a checkpoint that has them in float32."""
    headers = read_headers(files)
    transposed = any(
        layer.adapter is None and flag(layer.module, "is_transposed") for layer in layers
    )
    hints = Hints.read(files.root, files.config)
    with files.opened() as read:
        quantised = find_quantised(
            Stored(headers=headers, hints=hints, read=read, transposed=transposed)
        )
    parts = {part for weight in quantised.values() for part in weight.parts}
    plain = {name: header for name, header in headers.items() if name not in parts}
    decoded = {name: TensorHeader("F32", weight.shape) for name, weight in quantised.items()}
    return quantised, plain | decoded


def expert_parameters(model: Any, layers: list[MoELayer]) -> set[str]:
    """Names of a model's parameters that belong to experts."""
    prefixes = tuple(f"{layer.name}." for layer in layers)
    return {name for name, _ in model.named_parameters() if name.startswith(prefixes)}


def _shape(model: Any, layers: list[MoELayer], activation: Activation) -> ModelShape:
    hidden, intermediate = _common([layer.sizes for layer in layers], layers, "size")
    return ModelShape(
        num_layers=len(layers),
        num_experts=_common([layer.num_experts for layer in layers], layers, "number"),
        top_k=router_top_k(model.config, layers),
        hidden_size=hidden,
        intermediate_size=intermediate,
        activation=activation.name,
        gated=activation.gated,
        biased=layers[0].adapter is None and bool(layers[0].module.has_bias),
    )


def _common(values: list[Any], layers: list[MoELayer], what: str) -> Any:
    """Return the value that all layers share; refuse if they differ."""
    for value, layer in zip(values, layers, strict=True):
        if value != values[0]:
            raise UnsupportedArchitecture(
                f"experts differ in {what} between {layers[0].name!r} ({values[0]}) and "
                f"{layer.name!r} ({value}); siftmoe needs all layers alike"
            )
    return values[0]
