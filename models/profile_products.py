r"""One pass over the calibration text that takes every layer's inner products.

All calibration tokens go through the model together, layer by layer. Of each layer the outputs of
all experts exist for one chunk of tokens at a time; what stays until the layer's statistics are
taken are its inner products, :math:`M (K + 1) E` numbers for M tokens. Beside the backbone memory
holds

.. math:: \underbrace{O(M d)}_{\text{hidden states}} + 8 M (K + 1) E + \text{CHUNK\_BYTES}
          + \text{one layer's experts}

bytes, whatever the number of layers; if all experts fit into memory they are kept between layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from siftmoe.models.profile_moments import LayerProducts, layer_statistics
from siftmoe.models.similarity import Estimate

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from siftmoe.models.profile_experts import ExpertStore, LayerExperts
    from siftmoe.models.profile_forward import ProfiledModel
    from siftmoe.models.profile_moments import IntArray

#: Outputs of all experts of a layer that exist at once, in float64: small beside any expert's
#: layer of a real model, large enough that a chunk's matrices are worth multiplying.
CHUNK_BYTES = 64 << 20


class ProductsPass:
    """Stands in for the expert layers and takes their statistics on the way.

    Parameters
    ----------
    store : ExpertStore
    on_layer : callable
        Called after each layer.
    chunk_bytes : int
        Bound on the outputs that exist at once.
    """

    def __init__(
        self,
        store: ExpertStore,
        *,
        on_layer: Callable[[], None] = lambda: None,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self.statistics: dict[int, tuple[IntArray, dict[str, Estimate]]] = {}
        self._store = store
        self._on_layer = on_layer
        self._chunk_bytes = chunk_bytes

    def __call__(self, layer: int, hidden: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """Compute a layer's output, and its statistics from all its tokens."""
        group = self._store.layer(layer)
        rows = max(1, self._chunk_bytes // (8 * len(group) * hidden.shape[1]))
        pieces = [torch.split(tensor, rows) for tensor in (hidden, experts, weights)]
        parts = [_chunk_products(group, *chunk) for chunk in zip(*pieces, strict=True)]
        products = LayerProducts(
            experts=experts.numpy(),
            weights=weights.to(torch.float64).numpy(),
            square=np.concatenate([part[1] for part in parts]),
            inner=np.concatenate([part[2] for part in parts]),
            output_square=np.concatenate([part[3] for part in parts]),
        )
        self.statistics[layer] = layer_statistics(products)
        self._on_layer()
        return torch.cat([part[0] for part in parts]).to(hidden.dtype)


@torch.no_grad()
def run_products(
    profiled: ProfiledModel,
    store: ExpertStore,
    tokens: Tensor,
    *,
    on_layer: Callable[[], None] = lambda: None,
) -> tuple[IntArray, dict[str, Estimate]]:
    """Take the statistics of all layers.

    Parameters
    ----------
    profiled : ProfiledModel
    store : ExpertStore
    tokens : (B, S) int64
    on_layer : callable
        Called after each layer.

    Returns
    -------
    counts : (L, E) int64
    estimates : dict of str to Estimate
        As `layer_statistics`, with the dimension of layers in front.
    """
    layers = ProductsPass(store, on_layer=on_layer)
    profiled.function = layers
    profiled.final_hidden(tokens)
    found = [layers.statistics[layer] for layer in range(len(profiled.layers))]
    counts = np.stack([count for count, _ in found])
    return counts, {name: _stack([row[name] for _, row in found]) for name in found[0][1]}


def _chunk_products(
    group: LayerExperts, hidden: Tensor, experts: Tensor, weights: Tensor
) -> tuple[Tensor, ...]:
    """Output, squared norms, inner products and squared norm of the output of a chunk."""
    outputs = group.outputs(hidden).to(torch.float64)  # [E, T, d]
    filled = experts < len(group)
    rows = torch.arange(len(hidden))[:, None]  # [T, 1]
    routed = outputs[experts.clamp(max=len(group) - 1), rows]  # [T, K, d]
    gates = torch.where(filled, weights.to(torch.float64), 0.0)
    combined = torch.einsum("tk,tkd->td", gates, routed)
    square = torch.einsum("etd,etd->te", outputs, outputs)
    inner = torch.einsum("tkd,etd->tke", routed, outputs)
    return combined, square, inner, combined.square().sum(dim=1)


def _stack(estimates: list[Estimate]) -> Estimate:
    return Estimate(
        np.stack([estimate.value for estimate in estimates]),
        np.stack([estimate.error for estimate in estimates]),
    )
