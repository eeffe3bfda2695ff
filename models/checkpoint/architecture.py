"""Builds the model of a ``config.json`` without weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from siftmoe.models.errors import UnsupportedArchitecture

if TYPE_CHECKING:
    from pathlib import Path


def build_empty_model(model_dir: Path) -> Any:
    """Build the model of a folder's ``config.json`` with parameters on the meta device.

    Buffers are real: rotary tables and similar ones are computed, not stored.

    Raises
    ------
    UnsupportedArchitecture
        If the installed transformers does not know the architecture.
    """
    import transformers
    from accelerate import init_empty_weights

    try:
        config = transformers.AutoConfig.from_pretrained(model_dir, local_files_only=True)
    except (ValueError, KeyError) as error:
        raise UnsupportedArchitecture(
            f"transformers {transformers.__version__} does not know the model in "
            f"{str(model_dir)!r} ({str(error).splitlines()[0]}); a newer transformers may"
        ) from error
    name = (config.architectures or ["(none)"])[0]
    model_class = getattr(transformers, name, None)
    if model_class is None:
        raise UnsupportedArchitecture(
            f"{str(model_dir)!r} has the architecture {name!r}, which transformers "
            f"{transformers.__version__} does not have; models with code of their own are not run"
        )
    with init_empty_weights():
        return model_class(config).eval()
