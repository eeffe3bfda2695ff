"""Find the bundle that a person names: a shipped checkpoint or a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from siftmoe.models.bundle import Bundle
    from siftmoe.models.bundle_writer import OnProgress


def cache_dir() -> Path:
    """Where bundles of shipped checkpoints are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "siftmoe" / "bundles"


def open_model(name: str, *, on_progress: OnProgress | None = None) -> Bundle:
    """Open a bundle, or make one of a shipped checkpoint the first time it is asked for.

    Parameters
    ----------
    name : str
        "upcycled", "scratch", or the folder of a bundle.
    on_progress : callable or None
        Called while a shipped checkpoint is prepared.

    Raises
    ------
    ValueError
        If it is neither.
    """
    from siftmoe.models.bundle import Bundle
    from siftmoe.models.bundle_writer import prepare_bundle
    from siftmoe.models.checkpoint_files import CheckpointFiles
    from siftmoe.models.manifest import MANIFEST_NAME
    from siftmoe.models.tiny import CHECKPOINTS, checkpoint_dir

    if name in CHECKPOINTS:
        source = checkpoint_dir(name)
        identity = CheckpointFiles.open(source).sha256()[:12]
        target = cache_dir() / f"{name}-{identity}"
        return prepare_bundle(source, target, on_progress=on_progress)
    folder = Path(name)
    if (folder / MANIFEST_NAME).is_file():
        return Bundle.open(folder)
    if (folder / "config.json").is_file():
        raise ValueError(
            f"{name!r} is a checkpoint, not a bundle; run: "
            f"siftmoe prepare {name} --out {folder.name}.bundle"
        )
    raise ValueError(
        f"no model {name!r}: name {', '.join(CHECKPOINTS)}, or the folder of a bundle that "
        f"`siftmoe prepare` wrote"
    )
