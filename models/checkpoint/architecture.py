"""Builds the model of a ``config.json`` without weights. Code in the folder is never run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from siftmoe.models.checkpoint.files import CONFIG_NAME
from siftmoe.models.errors import UnsupportedArchitecture

if TYPE_CHECKING:
    from pathlib import Path


def build_empty_model(model_dir: Path) -> Any:
    """Build the model of a folder's ``config.json`` with parameters on the meta device.

    Buffers are real: rotary tables and similar ones are computed, not stored.

    Raises
    ------
    UnsupportedArchitecture
        If the installed transformers does not know the model, also where the folder has code of
        its own for it.
    """
    from accelerate import init_empty_weights

    config = _read_config(model_dir)
    model_class = _class_of(config, model_dir)
    with init_empty_weights():
        return model_class(config).eval()


def _read_config(model_dir: Path) -> Any:
    import transformers

    try:
        # without trust_remote_code=False transformers asks on standard input, and runs it on "y"
        return transformers.AutoConfig.from_pretrained(
            model_dir, local_files_only=True, trust_remote_code=False
        )
    except (ValueError, KeyError) as error:
        raise UnsupportedArchitecture(_unknown(model_dir, str(error))) from error


def _unknown(model_dir: Path, reason: str) -> str:
    import transformers

    content = json.loads((model_dir / CONFIG_NAME).read_bytes())
    known = (
        f"transformers {transformers.__version__} does not know the model in {str(model_dir)!r}, "
        f"of type {content.get('model_type')!r}"
    )
    if content.get("auto_map"):
        return (
            f"{known}, and the folder's own code for it ('auto_map' in {CONFIG_NAME}) is never "
            f"run; use a transformers that has this type, or a release of the model in one that "
            f"it has"
        )
    return f"{known} ({(reason.splitlines() or [''])[0]}); a newer transformers may"


def _class_of(config: Any, model_dir: Path) -> Any:
    """Return the class that the configuration names, or else that of AutoModelForCausalLM."""
    import transformers
    from transformers.models.auto import modeling_auto

    name = (config.architectures or ["(none)"])[0]
    named = getattr(transformers, name, None)
    if isinstance(named, type) and issubclass(named, transformers.PreTrainedModel):
        return named
    # spelt otherwise in a release, or left out
    for mapping in (
        modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING,
        modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    ):
        if type(config) in mapping:
            return mapping[type(config)]
    raise UnsupportedArchitecture(
        f"{str(model_dir)!r} has the architecture {name!r} and the type {config.model_type!r}, for "
        f"which transformers {transformers.__version__} has no language model; models with code of "
        f"their own are not run"
    )
