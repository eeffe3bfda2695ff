"""The table of quantised formats, and the quantised weights of a checkpoint."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from siftmoe.models.checkpoint.quantised.awq import recognise_awq
from siftmoe.models.checkpoint.quantised.fp4 import recognise_blocks, recognise_packed_fp4
from siftmoe.models.checkpoint.quantised.gptq import GptqWeight, recognise_gptq, zero_offset
from siftmoe.models.checkpoint.quantised.normalfloat import recognise_normalfloat
from siftmoe.models.checkpoint.quantised.packed import recognise_packed
from siftmoe.models.checkpoint.quantised.scaled import recognise_llm_int8, recognise_scaled
from siftmoe.models.errors import UnsupportedPrecision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from siftmoe.models.checkpoint.quantised.weight import QuantisedWeight, Stored

#: Each decides by a tensor and those beside it whether that is a weight of its format. Of two that
#: share a precision, the one with the rarer parts comes first.
FORMATS: tuple[Callable[[str, Stored], QuantisedWeight | None], ...] = (
    recognise_blocks,
    recognise_gptq,
    recognise_awq,
    recognise_packed,
    recognise_packed_fp4,
    recognise_normalfloat,
    recognise_llm_int8,
    recognise_scaled,
)

#: Weights that are looked at to tell the two formats of GPTQ.
_GPTQ_SAMPLE = 8


def find_quantised(stored: Stored) -> dict[str, QuantisedWeight]:
    """Find the quantised weights of a checkpoint, by the names of the plain weights.

    What no format recognises is left out; the caller refuses what remains.

    Raises
    ------
    UnsupportedPrecision
        If parts of a weight do not fit each other, or a weight is there in two forms.
    """
    found: dict[str, QuantisedWeight] = {}
    for name in stored.headers:
        weight = _recognise(name, stored)
        if weight is None:
            continue
        if weight.name in found or (weight.name in stored.headers and weight.name != name):
            raise UnsupportedPrecision(
                f"weight {weight.name!r} is in the checkpoint twice, one of them quantised as "
                f"{name!r}; take a release with one of them"
            )
        found[weight.name] = weight
    return _with_offset(found, stored)


def _recognise(name: str, stored: Stored) -> QuantisedWeight | None:
    for recognise in FORMATS:
        weight = recognise(name, stored)
        if weight is not None:
            return weight
    return None


def _with_offset(found: dict[str, QuantisedWeight], stored: Stored) -> dict[str, QuantisedWeight]:
    """Give all weights of GPTQ the offset of their checkpoint's zero points."""
    weights = [weight for weight in found.values() if isinstance(weight, GptqWeight)]
    if not weights:
        return found
    offset = _common_offset(weights, stored)
    return {
        name: dataclasses.replace(weight, offset=offset)
        if isinstance(weight, GptqWeight)
        else weight
        for name, weight in found.items()
    }


def _common_offset(weights: list[GptqWeight], stored: Stored) -> int:
    step = max(1, len(weights) // _GPTQ_SAMPLE)
    sample: Iterable[GptqWeight] = weights[::step][:_GPTQ_SAMPLE]
    offsets = {zero_offset(weight, stored) for weight in sample} - {None}
    offset = offsets.pop() if offsets else None
    if offset is None or offsets:
        raise UnsupportedPrecision(
            f"weights such as {weights[0].name!r} are in GPTQ's first format or in its second, "
            f"which their tensors do not decide; put 'quantization_config' with its "
            f"'checkpoint_format' (gptq or gptq_v2) back into config.json"
        )
    return offset
