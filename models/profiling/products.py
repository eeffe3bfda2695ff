r"""Computes every layer's inner products in one pass over the calibration text.

All calibration tokens go through the model together, layer by layer. The outputs of all experts of
a layer exist for one chunk of tokens at a time. Only their inner products, :math:`M (K + 1) E`
numbers for M tokens, are kept until the layer's statistics are computed. In addition to the
backbone, memory holds

.. math:: \underbrace{O(M d)}_{\text{hidden states}} + 8 M (K + 1) E (W + 1)
          + 2\,\text{CHUNK\_BYTES} + \text{one layer's experts}

bytes for W widths, for any number of layers. If all experts fit into memory they are kept between
layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from siftmoe.models.profiling.moments import (
    LayerProducts,
    NarrowProducts,
    layer_statistics,
    stack,
)
from siftmoe.models.vectors.quantise import round_trip

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from siftmoe.models.profiling.experts import ExpertStore, LayerExperts
    from siftmoe.models.profiling.forward import ProfiledModel
    from siftmoe.models.profiling.moments import FloatArray, IntArray
    from siftmoe.models.similarity.quantities import Estimate
    from siftmoe.models.vectors.quantise import Rotation

#: Bytes of a layer's expert outputs that exist at once, in float64: small compared with an expert
#: layer of a real model, large enough for efficient matrix products.
CHUNK_BYTES = 64 << 20


class ProductsPass:
    """Expert layers that also compute their statistics.

    Parameters
    ----------
    store : ExpertStore
    widths : sequence of int, bit
        Widths of tokens that are measured in addition to exact ones.
    rotation : "none" or "hadamard"
        Rotation of tokens and outputs before they are quantised.
    on_layer : callable
        Called after each layer.
    chunk_bytes : int
        Bound on the outputs that exist at once.
    """

    def __init__(
        self,
        store: ExpertStore,
        *,
        widths: Sequence[int] = (),
        rotation: Rotation = "none",
        on_layer: Callable[[], None] = lambda: None,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self.statistics: dict[int, tuple[IntArray, dict[str, Estimate]]] = {}
        self._store = store
        self._widths, self._rotation = tuple(widths), rotation
        self._on_layer = on_layer
        self._chunk_bytes = chunk_bytes

    def __call__(self, layer: int, hidden: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """Compute a layer's output, and the statistics of all its tokens."""
        group = self._store.layer(layer)
        rows = max(1, self._chunk_bytes // (8 * len(group) * hidden.shape[1]))
        pieces = [torch.split(tensor, rows) for tensor in (hidden, experts, weights)]
        parts = [self._chunk(group, *chunk) for chunk in zip(*pieces, strict=True)]
        products = LayerProducts(
            experts=experts.numpy(),
            weights=weights.to(torch.float64).numpy(),
            square=np.concatenate([part.square for part in parts]),
            inner=np.concatenate([part.inner for part in parts]),
            output_square=np.concatenate([part.output_square for part in parts]),
            narrow=tuple(
                NarrowProducts(
                    **{
                        name: np.concatenate([getattr(part.narrow[w], name) for part in parts])
                        for name in ("square", "inner", "reply_square")
                    }
                )
                for w in range(len(self._widths))
            ),
        )
        self.statistics[layer] = layer_statistics(products)
        self._on_layer()
        return torch.cat([part.output for part in parts]).to(hidden.dtype)

    def _chunk(
        self, group: LayerExperts, hidden: Tensor, experts: Tensor, weights: Tensor
    ) -> _Chunk:
        outputs = group.outputs(hidden).to(torch.float64)  # [E, T, d]
        filled = experts < len(group)
        rows = torch.arange(len(hidden))[:, None]  # [T, 1]
        routed = outputs[experts.clamp(max=len(group) - 1), rows]  # [T, K, d]
        gates = torch.where(filled, weights.to(torch.float64), 0.0)
        combined = torch.einsum("tk,tkd->td", gates, routed)
        square, inner = _products(outputs, routed)
        return _Chunk(
            output=combined,
            square=square,
            inner=inner,
            output_square=combined.square().sum(dim=1).numpy(),
            narrow=[self._narrow(group, hidden, routed, width) for width in self._widths],
        )

    def _narrow(
        self, group: LayerExperts, hidden: Tensor, routed: Tensor, width: int
    ) -> NarrowProducts:
        arrived = round_trip(hidden.float().numpy(), width, rotation=self._rotation)
        outputs = group.outputs(torch.from_numpy(arrived).to(hidden.dtype)).to(torch.float64)
        square, inner = _products(outputs, routed)
        sent = routed.float().flatten(0, 1).numpy()  # [T*K, d]
        lost = round_trip(sent, width, rotation=self._rotation).astype(np.float64) - sent
        return NarrowProducts(
            square=square,
            inner=inner,
            reply_square=np.square(lost).sum(axis=1).reshape(routed.shape[:2]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunk:
    """Inner products of some of a layer's tokens, and the layer's output for them."""

    output: Tensor
    square: FloatArray
    inner: FloatArray
    output_square: FloatArray
    narrow: list[NarrowProducts]


@torch.no_grad()
def run_products(
    profiled: ProfiledModel,
    store: ExpertStore,
    tokens: Tensor,
    *,
    widths: Sequence[int] = (),
    rotation: Rotation = "none",
    on_layer: Callable[[], None] = lambda: None,
) -> tuple[IntArray, dict[str, Estimate]]:
    """Compute the statistics of all layers.

    Parameters
    ----------
    profiled : ProfiledModel
    store : ExpertStore
    tokens : (B, S) int64
    widths, rotation
        As of `ProductsPass`.
    on_layer : callable
        Called after each layer.

    Returns
    -------
    counts : (L, E) int64
    estimates : dict of str to Estimate
        As `layer_statistics`, with the dimension of layers in front.
    """
    layers = ProductsPass(store, widths=widths, rotation=rotation, on_layer=on_layer)
    profiled.function = layers
    profiled.final_hidden(tokens)
    found = [layers.statistics[layer] for layer in range(len(profiled.layers))]
    counts = np.stack([count for count, _ in found])
    return counts, stack([estimates for _, estimates in found])


def _products(outputs: Tensor, routed: Tensor) -> tuple[FloatArray, FloatArray]:
    """Squared norms (T, E) of outputs [E, T, d], and their products with routed [T, K, d]."""
    square = torch.einsum("etd,etd->te", outputs, outputs)
    inner = torch.einsum("tkd,etd->tke", routed, outputs)
    return square.numpy(), inner.numpy()
