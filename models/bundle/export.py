"""Builds the ONNX graph of one expert, node by node.

The graph has one input ``hidden`` [n, d] and one output ``output`` [n, d], with n free, in float32
or float16. Its weights are inside the file. ONNX Runtime reads opset 17 and IR version 8 from
version 1.13 on, which older Jetson images have.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from siftmoe.models.bundle.onnx_file import OnnxFile
from siftmoe.models.errors import UnsupportedArchitecture
from siftmoe.models.shape import BYTES_PER_NUMBER

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from onnx import NodeProto

    from siftmoe.models.bundle.manifest import Dtype
    from siftmoe.models.checkpoint.experts import Activation, ExpertWeights

OPSET = 17
IR_VERSION = 8

#: Largest protobuf message, minus room for the graph around the weights.
MAX_WEIGHT_BYTES = 2**31 - 2**20

_ELEMENT_TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}


class _Graph:
    """Nodes and weights of a graph under construction; each method returns its result's name."""

    def __init__(self, dtype: Dtype) -> None:
        self.dtype = np.dtype(dtype)
        self.nodes: list[NodeProto] = []
        self.weights: list[tuple[str, NDArray[np.generic]]] = []

    def node(self, operator: str, *inputs: str, output: str | None = None) -> str:
        name = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name))
        return name

    def weight(self, name: str, array: NDArray[np.float32]) -> str:
        largest = np.abs(array).max(initial=0.0)  # NaN stays NaN
        if not largest <= np.finfo(self.dtype).max:
            raise UnsupportedArchitecture(
                f"weight {name!r} of an expert is not finite in {self.dtype}, its largest is "
                f"{float(largest):g}; prepare the bundle with --dtype float32"
            )
        self.weights.append((name, array))
        return name

    def number(self, value: float) -> str:
        name = f"number_{len(self.weights)}"
        self.weights.append((name, np.asarray(value, dtype=self.dtype)))
        return name

    def linear(
        self, x: str, name: str, weight: NDArray[np.float32], bias: NDArray[np.float32] | None
    ) -> str:
        """Multiply rows by a projection [out, in]; a MatMul with its transpose is fastest."""
        product = self.node("MatMul", x, self.weight(name, weight.T))
        if bias is None:
            return product
        return self.node("Add", product, self.weight(f"{name}_bias", bias))


def build_expert(weights: ExpertWeights, dtype: Dtype) -> OnnxFile:
    """Build an expert's graph; its weights are converted when it is written.

    Parameters
    ----------
    weights : ExpertWeights
    dtype : "float32" or "float16"
        Precision of input, output, weights and intermediate values.

    Raises
    ------
    UnsupportedArchitecture
        If the expert is too large for one file, or a weight too large for the precision.
    """
    _check_size(weights, dtype)
    graph = _Graph(dtype)
    up = graph.linear("hidden", "up", weights.up, weights.up_bias)
    if weights.gate is None:
        inner = _FUNCTIONS[weights.activation.function](graph, up, weights.activation.alpha)
    else:
        gate = graph.linear("hidden", "gate", weights.gate, weights.gate_bias)
        inner = _gated(graph, gate, up, weights.activation)
    down = graph.linear(inner, "down", weights.down, weights.down_bias)
    graph.node("Identity", down, output="output")
    return _model(graph, width=weights.down.shape[0], dtype=dtype)


def _gated(graph: _Graph, gate: str, up: str, activation: Activation) -> str:
    if math.isfinite(activation.limit):
        limit = graph.number(activation.limit)
        gate = graph.node("Min", gate, limit)
        up = graph.node("Clip", up, graph.number(-activation.limit), limit)
    if activation.shift:
        up = graph.node("Add", up, graph.number(activation.shift))
    return graph.node("Mul", _FUNCTIONS[activation.function](graph, gate, activation.alpha), up)


def _swish(graph: _Graph, x: str, alpha: float) -> str:
    scaled = x if alpha == 1.0 else graph.node("Mul", x, graph.number(alpha))
    return graph.node("Mul", x, graph.node("Sigmoid", scaled))


def _gelu(graph: _Graph, x: str, _: float) -> str:
    r"""Gaussian error linear unit, :math:`x/2\,(1 + \mathrm{erf}(x/\sqrt 2))`."""
    erf = graph.node("Erf", graph.node("Mul", x, graph.number(math.sqrt(0.5))))
    return _half_product(graph, x, erf)


def _gelu_tanh(graph: _Graph, x: str, _: float) -> str:
    r"""Tanh approximation of the GELU, :math:`x/2\,(1 + \tanh(\sqrt{2/\pi}(x + 0.044715x^3)))`."""
    cube = graph.node("Mul", graph.node("Mul", x, x), graph.node("Mul", x, graph.number(0.044715)))
    inner = graph.node("Mul", graph.node("Add", x, cube), graph.number(math.sqrt(2.0 / math.pi)))
    return _half_product(graph, x, graph.node("Tanh", inner))


def _half_product(graph: _Graph, x: str, y: str) -> str:
    half = graph.node("Mul", x, graph.number(0.5))
    return graph.node("Mul", half, graph.node("Add", y, graph.number(1.0)))


def _relu(graph: _Graph, x: str, _: float) -> str:
    return graph.node("Relu", x)


def _relu_squared(graph: _Graph, x: str, _: float) -> str:
    positive = graph.node("Relu", x)
    return graph.node("Mul", positive, positive)


#: The same keys as ``siftmoe.models.checkpoint.experts.FUNCTIONS``.
_FUNCTIONS: dict[str, Callable[[_Graph, str, float], str]] = {
    "swish": _swish,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": _relu,
    "relu_squared": _relu_squared,
}


def _model(graph: _Graph, *, width: int, dtype: Dtype) -> OnnxFile:
    element = _ELEMENT_TYPES[dtype]
    rows = [
        helper.make_tensor_value_info(name, element, ["n", width]) for name in ("hidden", "output")
    ]
    body = helper.make_graph(graph.nodes, "expert", rows[:1], rows[1:])
    # no version in the producer: the same checkpoint gives the same bytes and so the same hash
    model = helper.make_model(
        body,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="siftmoe",
    )
    return OnnxFile(model, graph.weights, dtype=graph.dtype)


def _check_size(weights: ExpertWeights, dtype: Dtype) -> None:
    arrays = (weights.up, weights.down, weights.gate)
    size = sum(a.size for a in arrays if a is not None) * BYTES_PER_NUMBER[dtype]
    if size > MAX_WEIGHT_BYTES:
        smaller = "; --dtype float16 halves it" if dtype == "float32" else ""
        raise UnsupportedArchitecture(
            f"one expert has {size / 2**30:.2f} GiB of weights in {dtype}, an ONNX file holds "
            f"at most 2 GiB{smaller}"
        )
