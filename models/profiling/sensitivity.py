r"""Measures the sensitivity of a model's loss to a deviation of a layer's output.

.. math:: F_l = \mathbb E[g\,g^T], \qquad a_l = \mathrm{tr}\,F_l / d = \mathbb E\|g\|^2 / d

with g the gradient of a window's summed negative log-likelihood with respect to the layer's output
for one token. Labels are sampled from the model itself, so F is the Fisher information: the
curvature of the Kullback-Leibler divergence from the undisturbed model. A deviation
:math:`\delta` of one token in a random direction then costs about
:math:`\tfrac12 a_l \|\delta\|^2` nats.

This project's own derivation: docs/explanation/theory.md, section 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from siftmoe.models.profiling.moments import mean_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from siftmoe.models.profiling.experts import ExpertStore
    from siftmoe.models.profiling.forward import ProfiledModel
    from siftmoe.models.similarity.quantities import Estimate

#: Labels drawn for every place of a window; each costs a backward pass.
LABEL_SAMPLES = 4

#: Windows per batch; bounds the activations that are kept for gradients.
_BATCH_WINDOWS = 8


class ProbedLayers:
    """Expert layers that add a zero tensor to their outputs, to differentiate by it."""

    def __init__(self, store: ExpertStore) -> None:
        self.probes: dict[int, Tensor] = {}
        self._store = store

    def __call__(self, layer: int, hidden: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """Compute a layer's output from its routed experts."""
        output = self._store.layer(layer).combine(hidden, experts, weights)
        self.probes[layer] = torch.zeros_like(output, requires_grad=True)
        return output + self.probes[layer]


def measure_sensitivity(
    profiled: ProfiledModel,
    store: ExpertStore,
    tokens: Tensor,
    *,
    seed: int,
    samples: int = LABEL_SAMPLES,
    on_windows: Callable[[int], None] = lambda _: None,
) -> Estimate:
    """Measure the sensitivity of every layer.

    Parameters
    ----------
    profiled : ProfiledModel
    store : ExpertStore
        With all experts in memory; otherwise every window reads them again.
    tokens : (B, S) int64
    seed : int
        Seed of the sampled labels.
    samples : int
        Labels per place.
    on_windows : callable
        Called with the number of windows finished since the last call.

    Returns
    -------
    Estimate of (L,) float64, nat per squared unit of the layer's output
        Standard errors are over windows.
    """
    generator = torch.Generator().manual_seed(seed)
    probed = ProbedLayers(store)
    profiled.function = probed
    rows = []
    for batch in torch.split(tokens, _BATCH_WINDOWS):
        rows.append(_batch_sensitivity(profiled, probed, batch, samples, generator))
        on_windows(len(batch))
    return mean_of(np.concatenate(rows))


def _batch_sensitivity(
    profiled: ProfiledModel,
    probed: ProbedLayers,
    batch: Tensor,
    samples: int,
    generator: torch.Generator,
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Mean of ‖g‖²/d over places and labels for each window and layer, (B, L)."""
    with torch.enable_grad():
        logits = profiled.logits(batch).flatten(0, 1)  # [B*S, V]
        probes = [probed.probes[layer] for layer in range(len(profiled.layers))]
        with torch.no_grad():
            chances = logits.softmax(dim=-1)
            labels = torch.multinomial(chances, samples, replacement=True, generator=generator)
        total = np.zeros((len(batch), len(probes)))
        for number in range(samples):
            loss = functional.cross_entropy(logits, labels[:, number], reduction="sum")
            gradients = torch.autograd.grad(loss, probes, retain_graph=number < samples - 1)
            for layer, gradient in enumerate(gradients):
                square = gradient.double().square().mean(dim=-1)  # [B*S_l]
                total[:, layer] += square.reshape(len(batch), -1).mean(dim=1).numpy()
    return total / samples
