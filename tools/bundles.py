"""Opens a bundle by name: a shipped checkpoint or a folder."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from siftmoe.models.bundle.reader import Bundle
    from siftmoe.models.bundle.writer import Progress
    from siftmoe.models.profiling.measure import ProfileProgress

    AnyProgress = Progress | ProfileProgress

#: Stages that have a progress bar.
_SHOWN = ("experts", "similarity", "sensitivity", "response", "amplification")


def cache_dir() -> Path:
    """Return the folder that keeps bundles of shipped checkpoints between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "siftmoe" / "bundles"


def open_with_progress(name: str) -> Bundle:
    """Open a model as `open_model` does, with progress bars if it has to be prepared."""
    from siftmoe.tools.terminal.progress import progress_bar

    with ExitStack() as stack:
        bars: dict[str, Callable[[int], None]] = {}
        shown: dict[str, int] = {}

        def show(progress: AnyProgress) -> None:
            stage = progress.stage
            if stage not in _SHOWN:
                return
            if stage not in bars:
                stack.close()  # one bar at a time: stages run one after another
                bars[stage] = stack.enter_context(progress_bar(f"{name}: {stage}", progress.total))
            bars[stage](progress.done - shown.get(stage, 0))
            shown[stage] = progress.done

        return open_model(name, on_progress=show)


def open_model(name: str, *, on_progress: Callable[[AnyProgress], None] | None = None) -> Bundle:
    """Open a bundle; a shipped checkpoint is prepared into one at its first use.

    A shipped checkpoint's bundle has a profile, measured on the shipped calibration text.

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
    from siftmoe.models.bundle.manifest import MANIFEST_NAME
    from siftmoe.models.bundle.reader import Bundle
    from siftmoe.models.bundle.writer import prepare_bundle
    from siftmoe.models.checkpoint.files import CheckpointFiles
    from siftmoe.models.profiling.bundle import add_profile
    from siftmoe.models.profiling.text import CalibrationText
    from siftmoe.models.tiny.files import CHECKPOINTS, checkpoint_dir, data_path
    from siftmoe.tools.threads import one_torch_thread

    if name in CHECKPOINTS:
        source = checkpoint_dir(name)
        identity = CheckpointFiles.open(source).hashes().with_companions[:12]
        target = cache_dir() / f"{name}-{identity}"
        with one_torch_thread():
            bundle = prepare_bundle(source, target, on_progress=on_progress)
            # this folder is a cache: a profile of an older text or format is replaced
            text = CalibrationText.read(data_path("calibration"))
            return add_profile(bundle, text, replace=True, on_progress=on_progress)
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
