"""A bundle from what a user has: its name, its folder, a checkpoint, or a model in memory."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siftmoe.models.bundle.manifest import MANIFEST_NAME
from siftmoe.models.bundle.reader import Bundle
from siftmoe.models.bundle.writer import prepare_bundle
from siftmoe.models.checkpoint.files import CONFIG_NAME, CheckpointFiles
from siftmoe.models.profiling.bundle import add_profile
from siftmoe.models.profiling.text import CalibrationText
from siftmoe.models.tiny.files import CHECKPOINTS, data_path
from siftmoe.tools.bundles import cache_dir, open_with_progress
from siftmoe.tools.threads import one_torch_thread

if TYPE_CHECKING:
    from siftmoe.coordinator.policies.spec import PolicySpec


def bundle_of(model: Any, *, tokenizer: Any = None) -> Bundle:
    """Open a model as a bundle; a checkpoint, or a model in memory, is prepared in the cache.

    Parameters
    ----------
    model : str, Path, Bundle or transformers.PreTrainedModel
        "upcycled", "scratch", the folder of a bundle or of a checkpoint, a bundle, or a model.
    tokenizer : transformers.PreTrainedTokenizerBase or None
        Of a model in memory.

    Raises
    ------
    ValueError
        If it is none of these.
    ModelError
        If the checkpoint has no experts that can be exported.
    """
    if isinstance(model, Bundle):
        return model
    if isinstance(model, str | os.PathLike):
        name, folder = str(model), Path(model)
        is_checkpoint = (folder / CONFIG_NAME).is_file() and not (folder / MANIFEST_NAME).is_file()
        return _prepared(folder) if is_checkpoint and name not in CHECKPOINTS else _opened(name)
    if hasattr(model, "save_pretrained"):
        with tempfile.TemporaryDirectory() as scratch:
            model.save_pretrained(scratch)
            if tokenizer is not None:
                tokenizer.save_pretrained(scratch)
            return _prepared(Path(scratch))
    raise ValueError(
        f"{model!r} is no model: give {', '.join(CHECKPOINTS)}, a folder, a Bundle, or a "
        f"transformers model"
    )


def with_profile(bundle: Bundle, policy: PolicySpec) -> Bundle:
    """Measure a bundle's profile on the shipped calibration text if the policy needs one."""
    if not policy.traits.budgets or bundle.manifest.profile_file() is not None:
        return bundle
    with one_torch_thread():
        return add_profile(bundle, CalibrationText.read(data_path("calibration")))


def _opened(name: str) -> Bundle:
    return open_with_progress(name)


def _prepared(checkpoint: Path) -> Bundle:
    identity = CheckpointFiles.open(checkpoint).hashes().with_companions[:16]
    with one_torch_thread():
        return prepare_bundle(checkpoint, cache_dir() / f"checkpoint-{identity}")
