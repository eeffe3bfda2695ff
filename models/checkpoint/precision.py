"""Refuses checkpoints whose weights are quantised, judged by the tensors alone.

A ``quantization_config`` in ``config.json`` is no evidence: it may be missing beside quantised
tensors, or left over beside tensors that were converted back. Evidence is a weight that is not a
floating-point number of 16 bits or more, or a tensor without a parameter in the model that a
quantised format stores beside its weights, such as scales.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from siftmoe.models.errors import UnsupportedPrecision

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
#: Formats that transformers converts back on the CPU: what their tensors are called, and its class.
_CONVERTED_BACK = {
    "MXFP4": (re.compile(r"_blocks$"), "Mxfp4Config"),
    "fp8": (re.compile(r"weight_scale_inv$"), "FineGrainedFP8Config"),
}


def check_precision(
    files: CheckpointFiles,
    headers: dict[str, TensorHeader],
    sources: dict[str, Source],
    unused: list[str],
    *,
    model: Any,
) -> None:
    """Refuse a checkpoint with quantised weights.

    Parameters
    ----------
    headers : dict of str to TensorHeader
        Of every tensor on disk.
    sources : dict of str to Source
        The tensors on disk that make each parameter.
    unused : list of str
        Tensors on disk for which the model has no parameter.
    model : transformers.PreTrainedModel
        On the meta device.

    Raises
    ------
    UnsupportedPrecision
        If a weight has another precision than float64, float32, float16 or bfloat16, or a tensor
        without a parameter belongs to a quantised format. The message says how to convert it.
    """
    found = [*_misread(headers, sources, model), *_leftover(headers, unused, model)]
    if not found:
        return
    name = found[0]
    raise UnsupportedPrecision(
        f"checkpoint {str(files.root)!r} is quantised: {len(found)} tensors such as {name!r} "
        f"({headers[name].dtype}); siftmoe reads {', '.join(_READ.values())}. "
        f"{_way_out(files, found)}"
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
        if any(part.search(name) for part in ignored):
            continue
        if _QUANTISED_NAME.search(name) or headers[name].dtype not in {*_READ, "I64", "BOOL"}:
            yield name


def _way_out(files: CheckpointFiles, found: list[str]) -> str:
    for title, (pattern, config) in _CONVERTED_BACK.items():
        if any(pattern.search(name) for name in found):
            return _conversion(files, title, config)
    return (
        "Take the model's release in bfloat16 or float16, or convert the weights back with the "
        "tool that quantised them, and prepare that folder"
    )


def _conversion(files: CheckpointFiles, title: str, config: str) -> str:
    """Say how transformers converts a checkpoint back to bfloat16."""
    source = str(files.root)
    target = f"{source}-bfloat16"
    first = ""
    if not files.config.get("quantization_config"):
        first = (
            "Its config.json lacks the 'quantization_config' of the release, without which "
            "transformers misreads it too: put that back first. "
        )
    return (
        f"{first}Where memory holds the whole model, convert it from {title} and prepare the "
        f"result:\n"
        f'  python -c "import transformers as t; t.AutoModelForCausalLM.from_pretrained('
        f"{source!r}, quantization_config=t.{config}(dequantize=True), dtype='bfloat16')"
        f".save_pretrained({target!r}, save_original_format=False); "
        f't.AutoTokenizer.from_pretrained({source!r}).save_pretrained({target!r})"\n'
        f"  siftmoe prepare {target} --out BUNDLE"
    )
