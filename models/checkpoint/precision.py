"""Refuses checkpoints whose weights are quantised in an unknown form, judged by the tensors alone.

A ``quantization_config`` in ``config.json`` is no evidence: it may be missing beside quantised
tensors, or left over beside tensors that were converted back. What ``quantised`` recognises counts
as float32 here. Evidence is a weight that is not a floating-point number of 16 bits or more, or a
tensor without a parameter in the model that a quantised format stores beside its weights, such as
scales.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from siftmoe.models.checkpoint.quantised.leftovers import is_harmless
from siftmoe.models.errors import UnsupportedPrecision

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from siftmoe.models.checkpoint.files import CheckpointFiles
    from siftmoe.models.checkpoint.headers import TensorHeader
    from siftmoe.models.checkpoint.names import Source

#: Precisions of weights that are read, as safetensors names them.
_READ = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
#: Integers that a model may have where it has no floating-point parameter.
_INTEGERS = {"BOOL", "I16", "I32", "I64", "U8", "I8", "U16", "U32", "U64"}
#: Parts of names that quantised formats give to what they store beside the weights: fp8 and int8
#: (scale, zero_point, amax), GPTQ and AWQ (qweight, qzeros, g_idx), bitsandbytes (absmax,
#: quant_map, quant_state, SCB), MXFP4 (blocks, scales), compressed-tensors (packed).
_QUANTISED_NAME = re.compile(
    r"scale|zero_?point|amax|absmax|qweight|qzeros|g_idx|quant_|SCB|_blocks$|_packed$|codebook"
)


def check_precision(
    files: CheckpointFiles,
    headers: dict[str, TensorHeader],
    sources: dict[str, Source],
    unused: list[str],
    *,
    model: Any,
    quantised: Container[str] = (),
) -> None:
    """Refuse a checkpoint whose weights are quantised in a form that is not known.

    Parameters
    ----------
    headers : dict of str to TensorHeader
        Of every tensor on disk; quantised weights that are known are in float32.
    sources : dict of str to Source
        The tensors on disk that make each parameter.
    unused : list of str
        Tensors on disk for which the model has no parameter.
    model : transformers.PreTrainedModel
        On the meta device.
    quantised : container of str
        Names of the quantised weights that are known.

    Raises
    ------
    UnsupportedPrecision
        If a weight has another precision than float64, float32, float16 or bfloat16, or a tensor
        without a parameter belongs to a quantised format.
    """
    found = [
        *_misread(headers, sources, model),
        *_leftover(headers, unused, model),
        *_silent_biases(files, unused, quantised),
    ]
    if not found:
        return
    name = found[0]
    raise UnsupportedPrecision(
        f"checkpoint {str(files.root)!r} is quantised in a form that siftmoe does not read: "
        f"{len(found)} tensors such as {name!r} ({headers[name].dtype}). It reads "
        f"{', '.join(_READ.values())}, fp8 and int8 with scales, MXFP4, NVFP4, GPTQ, AWQ and "
        f"bitsandbytes. Take the model's release in one of them, or convert the weights back with "
        f"the tool that quantised them, and prepare that folder"
    )


def _misread(
    headers: dict[str, TensorHeader], sources: dict[str, Source], model: Any
) -> Iterator[str]:
    """Yield tensors whose precision does not fit the parameter that they make."""
    state = model.state_dict()
    for target, source in sources.items():
        known = _READ if state[target].is_floating_point() else _INTEGERS
        yield from (name for name in source.names if headers[name].dtype not in known)


def _leftover(headers: dict[str, TensorHeader], unused: Iterable[str], model: Any) -> Iterator[str]:
    """Yield tensors of quantised formats for which the model has no parameter."""
    # parts of a model that transformers leaves out on purpose, as layers for speculative decoding
    ignored = [re.compile(part) for part in model._keys_to_ignore_on_load_unexpected or ()]
    for name in unused:
        if is_harmless(name) or any(part.search(name) for part in ignored):
            continue
        if _QUANTISED_NAME.search(name) or headers[name].dtype not in {*_READ, "I64", "BOOL"}:
            yield name


def _silent_biases(
    files: CheckpointFiles, unused: Iterable[str], quantised: Container[str]
) -> Iterator[str]:
    """Yield biases of quantised layers that the model lacks and that are not zero.

    AutoGPTQ stores a bias of zeros beside every layer.
    """
    for name in unused:
        stem = name.removesuffix("bias")
        if stem != name and f"{stem}weight" in quantised and bool(files.read(name).any()):
            yield name
