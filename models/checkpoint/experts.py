r"""One expert as plain float32 weights, whatever the layout of its checkpoint.

A gated expert computes the first formula, an expert without a gate the second:

.. math::
    y = W_\downarrow\,\bigl[\phi(\min(g, c)) \odot (\mathrm{clip}(u, -c, c) + s)\bigr]
        + b_\downarrow, \qquad g = W_g x + b_g,\; u = W_\uparrow x + b_\uparrow

    y = W_\downarrow\,\phi(W_\uparrow x + b_\uparrow) + b_\downarrow

with the nonlinearity :math:`\phi`, a limit :math:`c` (infinite for most families) and a shift
:math:`s` (1 for gpt-oss, else 0). `identify_activation` finds which of them a family uses by
running the activation code of its module.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from siftmoe.models.checkpoint.layers import flag
from siftmoe.models.errors import UnsupportedArchitecture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from siftmoe.models.checkpoint.layers import MoELayer

_QUICK_GELU_ALPHA = 1.702

#: Elementwise functions; the exporter has the same keys. Only "swish" uses alpha.
FUNCTIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "swish": lambda x, alpha: x * torch.sigmoid(alpha * x),
    "gelu": lambda x, _: functional.gelu(x),
    "gelu_tanh": lambda x, _: functional.gelu(x, approximate="tanh"),
    "relu": lambda x, _: functional.relu(x),
    "relu_squared": lambda x, _: functional.relu(x).square(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """The nonlinearity between an expert's first and last projection."""

    function: str
    gated: bool
    alpha: float = 1.0
    limit: float = math.inf
    shift: float = 0.0

    @property
    def name(self) -> str:
        """Name in manifest and messages, as ``silu`` or ``swish(1.702), limit 7, shift 1``."""
        name = self.function
        if name == "swish":
            name = "silu" if self.alpha == 1.0 else f"swish({self.alpha:g})"
        limit = f", limit {self.limit:g}" if math.isfinite(self.limit) else ""
        return name + limit + (f", shift {self.shift:g}" if self.shift else "")

    def apply(self, gate: Tensor, up: Tensor) -> Tensor:
        """Compute the formula of the module's docstring; a plain expert ignores ``gate``."""
        if not self.gated:
            return FUNCTIONS[self.function](up, self.alpha)
        gate, up = gate.clamp(max=self.limit), up.clamp(-self.limit, self.limit)
        return FUNCTIONS[self.function](gate, self.alpha) * (up + self.shift)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertWeights:
    """One expert in float32, each projection as [out, in].

    Parameters
    ----------
    up : (I, d) float32
    down : (d, I) float32
    gate : (I, d) float32 or None
    up_bias, gate_bias : (I,) float32 or None
    down_bias : (d,) float32 or None
    activation : Activation
    """

    up: NDArray[np.float32]
    down: NDArray[np.float32]
    activation: Activation
    gate: NDArray[np.float32] | None = None
    up_bias: NDArray[np.float32] | None = None
    gate_bias: NDArray[np.float32] | None = None
    down_bias: NDArray[np.float32] | None = None


def identify_activation(layer: MoELayer) -> Activation:
    """Find the activation of a layer's experts by comparing candidates with the module's own code.

    The module's activation is computed on numbers that reach beyond every limit; its parameters are
    not needed and may be on the meta device.

    Raises
    ------
    UnsupportedArchitecture
        If no known activation gives the same numbers.
    """
    module = layer.module
    gated = layer.adapter is None and flag(module, "has_gate")
    limits, alphas = _numbers(module, "limit"), _numbers(module, "alpha")
    reach = 2.0 * max([5.0, *limits])
    # a fixed lattice of pairs: every gate value with every up value, no randomness needed
    axis = torch.linspace(-reach, reach, 81, dtype=torch.float64)
    gate, up = (grid.flatten()[None] for grid in torch.meshgrid(axis, axis, indexing="ij"))
    wanted = _module_output(layer, gate, up, gated=gated)
    for candidate in _candidates(gated, limits=limits, alphas=alphas):
        # float32 inside some modules leaves 1e-6 relative; the closest two candidates, the two
        # forms of GELU, differ by 2e-4
        if torch.allclose(candidate.apply(gate, up), wanted, rtol=1e-5, atol=1e-5):
            return candidate
    raise UnsupportedArchitecture(
        f"experts module {layer.name!r} ({type(module).__name__}) has the activation "
        f"{_activation_name(layer)}, which siftmoe cannot export; it knows {', '.join(FUNCTIONS)}, "
        f"gated or not, with and without a limit"
    )


def split_fused(layer: MoELayer, tensors: dict[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    """Split one expert's fused parameters into projections [out, in] and biases.

    Parameters
    ----------
    tensors : dict of str to (1, ...) Tensor
        The fused parameters of one expert, by name.
    """
    module = layer.module
    parts: dict[str, NDArray[np.float32]] = {}
    for name, tensor in tensors.items():
        array = tensor[0].to(torch.float32).numpy()
        if array.ndim == 2 and flag(module, "is_transposed"):
            array = array.T  # [in, out] -> [out, in]
        stem, bias = name.removesuffix("_bias"), "_bias" if name.endswith("_bias") else ""
        if stem == "gate_up_proj":
            half = len(array) // 2
            joined = flag(module, "is_concatenated")
            parts["gate" + bias] = array[:half] if joined else array[0::2]
            parts["up" + bias] = array[half:] if joined else array[1::2]
        else:
            parts[stem.removesuffix("_proj") + bias] = array
    return {name: np.ascontiguousarray(array) for name, array in parts.items()}


def _candidates(gated: bool, *, limits: list[float], alphas: list[float]) -> Iterator[Activation]:
    for function in FUNCTIONS:
        for alpha in [1.0, _QUICK_GELU_ALPHA, *alphas] if function == "swish" else [1.0]:
            for limit in [math.inf, *limits] if gated else [math.inf]:
                for shift in (0.0, 1.0) if gated else (0.0,):
                    yield Activation(
                        function=function, gated=gated, alpha=alpha, limit=limit, shift=shift
                    )


def _numbers(module: nn.Module, word: str) -> list[float]:
    """Numeric attributes of a module whose name contains a word."""
    return [
        float(value)
        for name, value in vars(module).items()
        if word in name and isinstance(value, (int, float)) and not isinstance(value, bool)
    ]


def _module_output(layer: MoELayer, gate: Tensor, up: Tensor, *, gated: bool) -> Tensor:
    module: Any = layer.module
    with torch.no_grad():
        if not gated:
            answer: Tensor = _activation_module(layer)(up)
        else:
            joined = flag(module, "is_concatenated")
            pair = torch.cat([gate, up], -1) if joined else torch.stack([gate, up], -1).flatten(-2)
            answer = module._apply_gate(pair)
    return answer.to(torch.float64)


def _activation_module(layer: MoELayer) -> Any:
    if layer.adapter is None:
        return layer.module.act_fn
    first = layer.module.get_submodule(layer.adapter.child.format(0))
    return getattr(first, layer.adapter.activation)


def _activation_name(layer: MoELayer) -> str:
    holder: Any = layer.module
    if layer.adapter is not None:
        return repr(type(_activation_module(layer)).__name__)
    name = repr(type(getattr(holder, "act_fn", None)).__name__)
    own_gate = holder._apply_gate.__name__ != "_default_apply_gate"
    return f"{name} inside a gate of its own" if own_gate else name
