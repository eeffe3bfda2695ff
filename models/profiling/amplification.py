r"""How much of a layer's deviation arrives at the model's end, measured by perturbation.

A random deviation :math:`\delta` of fixed norm is added to one layer's output, and

.. math:: A_l = \mathbb E\,\frac{\|\Delta h_L\|}{\|\delta_l\|}

is taken of the last hidden state, behind the final norm. *Prefill*: every token of a window is
disturbed, so deviations also reach a token through its prefix. *Decode*: one token is, behind an
undisturbed prefix; attention is causal, so that this equals a decoding step on a clean cache.
Routing that flips further on is part of the figure, which is an average and no Lipschitz constant.

SiftMoE (arXiv 2603.23888) has such a factor in its Theorem 1; how to measure it is our choice
(docs/theory.md, section 0).
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

#: Norm of the deviation relative to the layer's mean output norm: about what replacing an expert
#: of small weight adds, and far above float32's rounding.
RELATIVE_SIZE = 0.1

#: Tokens of a window that decode, one in each pass; a few of them are amplified far above average.
DECODE_PLACES = 4

_BATCH_WINDOWS = 16


class PerturbedLayers:
    """Stands in for the expert layers and adds ``delta`` to the output of ``layer``.

    Attributes
    ----------
    layer : int or None
    delta : (T, d) Tensor or None
    rows : dict of int to int
        Rows that each layer got in the last pass.
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
        """Compute a layer's output from its routed experts, disturbed if it is its turn."""
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
        Of directions and of the places that decode.
    on_windows : callable
        Called with each number of windows just finished.

    Returns
    -------
    dict of str to Estimate
        ``amplification_prefill`` and ``amplification_decode`` (L,), ``final_norm`` (): mean norm of
        the undisturbed last hidden state. Standard errors are over windows. An encoder's layers
        never decode and have their prefill figure in both.
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
    """Draw deviations of a given norm in no particular direction, (B, S_l, d)."""
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
    """Amplification of one layer in each window, (B,): all places disturbed, then one at a time."""
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
        # the second half of a window, where there is a prefix worth the name
        place = torch.randint(length // 2, length, (len(batch),), generator=generator)
        alone = torch.zeros_like(delta)
        alone[window, place] = delta[window, place]
        layers.delta = alone.flatten(0, 1)
        change = (profiled.final_hidden(batch) - clean).norm(dim=-1)
        decode += change[window, place].double().numpy() / (size * DECODE_PLACES)
    return prefill, decode
