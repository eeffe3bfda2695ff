"""Compares an exported expert with the model's own code.

The reference is the experts module of transformers in float32 with a single expert. It uses none
of the exporter's formulas.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from siftmoe.models.errors import ExportParityError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from siftmoe.models.bundle.manifest import Dtype
    from siftmoe.models.checkpoint.layers import MoELayer

    FloatArray = NDArray[np.float32]

#: Largest deviation in a row, relative to the row's largest output. float32 differs by the order
#: of summation only. float16 rounds weights, input and every step (11 bits); the largest deviation
#: on the families of the tests was 3e-3.
TOLERANCE = {"float32": 1e-5, "float16": 1e-2}

#: Scales of the golden rows: normalised hidden states are near 1; limits and saturation act above.
_ROW_SCALES = (0.5, 1.0, 2.0, 4.0)


def golden_input(layer: int, hidden_size: int) -> FloatArray:
    """Draw the golden inputs of a layer, (4, d) float32; every call gives the same."""
    rng = np.random.default_rng((0x51F7, layer))
    rows = rng.standard_normal((len(_ROW_SCALES), hidden_size))
    scaled: FloatArray = (rows * np.asarray(_ROW_SCALES)[:, None]).astype(np.float32)
    return scaled


def torch_output(layer: MoELayer, fused: dict[str, Tensor], hidden: FloatArray) -> FloatArray:
    """Run the model's own experts module with one expert at gate weight 1, (n, d) float32.

    Parameters
    ----------
    layer : MoELayer
        Of the model on the meta device.
    fused : dict of str to Tensor
        The expert's parameters as ``Checkpoint.read_fused`` gives them.
    hidden : (n, d) float32
    """
    rows = torch.from_numpy(hidden)
    module = _single_expert(layer, fused)
    with torch.no_grad():
        if layer.adapter is not None:
            output = module(rows)
        else:
            first = torch.zeros(len(rows), 1, dtype=torch.int64)
            output = module(rows, first, torch.ones(len(rows), 1))
    return np.asarray(output.numpy(), dtype=np.float32)


def onnx_output(path: Path, hidden: FloatArray, dtype: Dtype) -> FloatArray:
    """Run an exported file in ONNX Runtime on the CPU, (n, d) float32."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (output,) = session.run(["output"], {"hidden": hidden.astype(dtype)})
    return np.asarray(output, dtype=np.float32)


def relative_error(output: FloatArray, reference: FloatArray) -> float:
    """Largest deviation of a row relative to the row's largest reference value; worst row."""
    deviation = np.abs(output - reference).max(axis=1)
    scale = np.abs(reference).max(axis=1)
    tiny = np.finfo(np.float32).tiny  # a row of zeros must be matched exactly
    return float((deviation / np.maximum(scale, tiny)).max())


def prove_parity(
    path: Path, *, name: str, hidden: FloatArray, reference: FloatArray, dtype: Dtype
) -> float:
    """Run an exported file and compare; returns the relative error.

    Raises
    ------
    ExportParityError
        If the error is above the precision's tolerance or not a number.
    """
    error = relative_error(onnx_output(path, hidden, dtype), reference)
    if not error <= TOLERANCE[dtype]:
        hint = "; try --dtype float32" if dtype == "float16" else "; please report the model"
        raise ExportParityError(
            f"{name}: its ONNX file deviates from torch by {error:.2g} relative in {dtype}, "
            f"at most {TOLERANCE[dtype]:g} is allowed{hint}"
        )
    return error


def _single_expert(layer: MoELayer, fused: dict[str, Tensor]) -> Any:
    """Copy the experts module, with one expert's parameters instead of all."""
    floats = {name: tensor.to(torch.float32) for name, tensor in fused.items()}
    if layer.adapter is not None:
        expert = copy.deepcopy(layer.module.get_submodule(layer.adapter.child.format(0)))
        expert.load_state_dict(floats, assign=True)
        return expert.eval()
    module: Any = copy.deepcopy(layer.module)
    for name, tensor in floats.items():
        setattr(module, name, torch.nn.Parameter(tensor, requires_grad=False))
    module.num_experts = 1
    module.config._experts_implementation = "eager"
    return module.eval()
