"""Checks tokenizer and calibration text before a bundle is prepared, which may take hours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siftmoe.models.checkpoint.files import CheckpointFiles
from siftmoe.models.checkpoint.tokenizer import has_tokenizer, load_tokenizer
from siftmoe.models.errors import CheckpointMismatch
from siftmoe.models.profiling.text import calibration_windows

if TYPE_CHECKING:
    from pathlib import Path

    from siftmoe.models.profiling.measure import ProfileOptions
    from siftmoe.models.profiling.text import CalibrationText


def check_calibration(
    model_dir: str | Path, text: CalibrationText, *, options: ProfileOptions
) -> None:
    """Refuse a checkpoint and a text of which no profile could be measured.

    Raises
    ------
    CheckpointMismatch
        If the checkpoint has no tokenizer, or that of another model.
    ValueError
        If the text is too short.
    """
    files = CheckpointFiles.open(model_dir)
    if not has_tokenizer(files.root):
        raise CheckpointMismatch(
            f"checkpoint {str(model_dir)!r} has no tokenizer, which the profile is measured with: "
            f"put tokenizer.json and tokenizer_config.json of the model's release into the folder, "
            f"or give --calibration none and add them later, which keeps the experts"
        )
    windows = calibration_windows(
        text,
        load_tokenizer(files.root),
        max_tokens=options.max_tokens,
        window=options.window,
        seed=options.seed,
    )
    size = files.vocabulary_size
    if size is not None and windows.max() >= size:
        raise CheckpointMismatch(
            f"checkpoint {str(model_dir)!r}: its tokenizer gives token {windows.max()}, the model "
            f"has {size} tokens; it belongs to another model: fetch both again"
        )
