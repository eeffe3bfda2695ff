r"""Measures the loss by deviations of the size that selection causes, by perturbation.

.. math:: \hat a_l = 2\,\mathbb E\bigl[D_{KL}(p \,\|\, p_\delta)\bigr] / \|\delta\|^2

with a random :math:`\delta` of fixed norm on every token of layer l; p and :math:`p_\delta` are the
next-token distributions of the undisturbed and the disturbed model. For a smooth model this is the
Fisher sensitivity a_l of `siftmoe.models.profiling.sensitivity`. Top-K routing is not smooth: the
probability that a deviation changes the routing of a later layer grows with its norm, not with its
square, and gradients do not include it. So :math:`\hat a_l \ge a_l`, equal in the last layer.

This project's own derivation: docs/explanation/theory.md, section 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from siftmoe.models.profiling.amplification import PerturbedLayers, random_deviation
from siftmoe.models.profiling.moments import mean_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from siftmoe.models.profiling.experts import ExpertStore
    from siftmoe.models.profiling.forward import ProfiledModel
    from siftmoe.models.similarity.quantities import Estimate

#: Norm of the deviation relative to the layer's mean output norm: that of replacing or skipping an
#: expert with about a third of the gate weight.
RELATIVE_SIZE = 0.4

#: Windows per batch; bounds the logits in memory.
_BATCH_WINDOWS = 8


@torch.no_grad()
def measure_response(
    profiled: ProfiledModel,
    store: ExpertStore,
    tokens: Tensor,
    *,
    sizes: Sequence[float],
    seed: int,
    on_windows: Callable[[int], None] = lambda _: None,
) -> Estimate:
    """Measure the loss by a deviation of a given size in every layer.

    Parameters
    ----------
    profiled : ProfiledModel
    store : ExpertStore
        With all experts in memory; otherwise every pass reads them again.
    tokens : (B, S) int64
    sizes : sequence of float, one per layer
        Norm of the deviation.
    seed : int
        Seed of its directions.
    on_windows : callable
        Called with the number of windows finished since the last call.

    Returns
    -------
    Estimate of (L,) float64, nat per squared unit of the layer's output
        Half of it is the loss, as with the sensitivity; standard errors are over windows.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = PerturbedLayers(store)
    profiled.function = layers
    rows = []
    for batch in torch.split(tokens, _BATCH_WINDOWS):
        layers.layer = None
        clean = profiled.logits(batch).log_softmax(dim=-1)  # [B, S', V]
        costs = []
        for layer, size in enumerate(sizes):
            # an encoder's layer may have more rows than there are predicted places
            share = layers.rows[layer] / (clean.shape[0] * clean.shape[1])
            delta = random_deviation(layers, layer, batch, size=size, generator=generator)
            layers.layer, layers.delta = layer, delta.flatten(0, 1)
            disturbed = profiled.logits(batch).log_softmax(dim=-1)
            divergence = (clean.exp() * (clean - disturbed)).sum(dim=-1)  # [B, S']
            mean = divergence.mean(dim=1).double().numpy()
            costs.append(2.0 * mean / (share * size**2))
        rows.append(np.stack(costs, axis=1))  # [B, L]
        on_windows(len(batch))
    return mean_of(np.concatenate(rows))
