r"""Measures the amplification of a layer's deviation up to the last hidden state, by perturbation.

A random deviation :math:`\delta` of fixed norm is added to one layer's output, and

.. math:: A_l = \mathbb E\,\frac{\|\Delta h_L\|}{\|\delta_l\|}

is measured at the last hidden state, behind the final norm. *Prefill*: every token of a window is
disturbed, so deviations also reach a token through its prefix. *Decode*: one token is disturbed and
its prefix is not; attention is causal, so this equals a decoding step on an undisturbed cache.
The figure includes changes of later routing; it is an average, not a Lipschitz constant.

SiftMoE (arXiv 2603.23888) has such a factor in its Theorem 1; the measurement is this project's own
(docs/explanation/theory.md, section 0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from siftmoe.models.profiling.moments import mean_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from siftmoe.models.profiling.experts import ExpertStore
    from siftmoe.models.profiling.forward import ProfiledModel
    from siftmoe.models.similarity.quantities import Estimate

    FloatArray = NDArray[np.float64]

#: Norm of the deviation relative to the layer's mean output norm: about that of replacing an expert
#: of small weight, and far above float32's rounding.
RELATIVE_SIZE = 0.1

#: Decoded tokens per window, one in each pass; a few tokens are amplified far above the average.
DECODE_PLACES = 4

_BATCH_WINDOWS = 16


class PerturbedLayers:
    """Expert layers that add ``delta`` to the output of ``layer``.

    Attributes
    ----------
    layer : int or None
    delta : (T, d) Tensor or None
    rows : dict of int to int
        Rows of each layer in the last pass.
    width : int
        Width d of the rows.
    """

    def __init__(self, store: ExpertStore) -> None:
        self.layer: int | None = None
        self.delta: Tensor | None = None
        self.rows: dict[int, int] = {}
        self.width = 0
        self._store = store

    def __call__(self, layer: int, hidden: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """Compute a layer's output from its routed experts; add ``delta`` in ``layer``."""
        output = self._store.layer(layer).combine(hidden, experts, weights)
        self.rows[layer], self.width = output.shape
        if layer == self.layer and self.delta is not None:
            output = output + self.delta
        return output


@torch.no_grad()
def measure_amplification(
    profiled: ProfiledModel,
    store: ExpertStore,
    tokens: Tensor,
    *,
    sizes: Sequence[float],
    seed: int,
    on_windows: Callable[[int], None] = lambda _: None,
) -> dict[str, Estimate]:
    """Measure the amplification of every layer.

    Parameters
    ----------
    profiled : ProfiledModel
    store : ExpertStore
        With all experts in memory; otherwise every pass reads them again.
    tokens : (B, S) int64
    sizes : sequence of float, one per layer
        Norm of the deviation.
    seed : int
        Seed of directions and of the decoded places.
    on_windows : callable
        Called with the number of windows finished since the last call.

    Returns
    -------
    dict of str to Estimate
        ``amplification_prefill`` and ``amplification_decode`` (L,), ``final_norm`` (): mean norm of
        the undisturbed last hidden state. Standard errors are over windows. An encoder's layers
        do not decode; both arrays have their prefill figure.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = PerturbedLayers(store)
    profiled.function = layers
    found: dict[str, list[FloatArray]] = {
        "amplification_prefill": [],
        "amplification_decode": [],
        "final_norm": [],
    }
    for batch in torch.split(tokens, _BATCH_WINDOWS):
        layers.layer = None
        clean = profiled.final_hidden(batch)  # [B, S', d]
        found["final_norm"].append(clean.norm(dim=-1).mean(dim=1).double().numpy())
        pairs = [
            _perturb_layer(profiled, layers, batch, clean, (layer, size), generator)
            for layer, size in enumerate(sizes)
        ]
        found["amplification_prefill"].append(np.stack([pair[0] for pair in pairs], axis=1))
        found["amplification_decode"].append(np.stack([pair[1] for pair in pairs], axis=1))
        on_windows(len(batch))
    return {name: mean_of(np.concatenate(parts)) for name, parts in found.items()}


def random_deviation(
    layers: PerturbedLayers,
    layer: int,
    batch: Tensor,
    *,
    size: float,
    generator: torch.Generator,
) -> Tensor:
    """Draw deviations of a given norm in uniformly random directions, (B, S_l, d)."""
    length = layers.rows[layer] // len(batch)
    direction = torch.randn(len(batch), length, layers.width, generator=generator)
    delta: Tensor = size * direction / direction.norm(dim=-1, keepdim=True)
    return delta


def _perturb_layer(
    profiled: ProfiledModel,
    layers: PerturbedLayers,
    batch: Tensor,
    clean: Tensor,
    which: tuple[int, float],
    generator: torch.Generator,
) -> tuple[FloatArray, FloatArray]:
    """Amplification of one layer in each window, (B,), in prefill and in decode."""
    layers.layer, size = which
    delta = random_deviation(layers, layers.layer, batch, size=size, generator=generator)
    length = delta.shape[1]
    layers.delta = delta.flatten(0, 1)
    change = (profiled.final_hidden(batch) - clean).norm(dim=-1)  # [B, S']
    prefill = change.mean(dim=1).double().numpy() / size
    if profiled.in_encoder(layers.layer):
        return prefill, prefill
    decode = np.zeros(len(batch))
    window = torch.arange(len(batch))
    for _ in range(DECODE_PLACES):
        # a place of the second half of the window, so that its prefix is long
        place = torch.randint(length // 2, length, (len(batch),), generator=generator)
        alone = torch.zeros_like(delta)
        alone[window, place] = delta[window, place]
        layers.delta = alone.flatten(0, 1)
        change = (profiled.final_hidden(batch) - clean).norm(dim=-1)
        decode += change[window, place].double().numpy() / (size * DECODE_PLACES)
    return prefill, decode
