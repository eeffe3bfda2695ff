"""Names and paths of the shipped checkpoints and evaluation sets.

Importing this module loads no torch. ``docs/explanation/checkpoints.md`` says how the files were
made.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["CHECKPOINTS", "DATA", "checkpoint_dir", "data_path"]

_HERE = Path(__file__).parent

CHECKPOINTS = {
    "upcycled": "Mixtral decoder, 4 layers of 8 experts made from one dense model: similar experts",
    "scratch": "Mixtral decoder of the same shape trained from scratch: nearly orthogonal experts",
}

DATA = {
    "calibration": "calibration.txt",
    "choice-val": "choice-val.jsonl",
    "choice-test": "choice-test.jsonl",
    "perplexity-val": "perplexity-val.jsonl",
    "perplexity-test": "perplexity-test.jsonl",
}


def checkpoint_dir(name: str) -> Path:
    """Return the Hugging Face folder of a shipped checkpoint.

    Raises
    ------
    ValueError
        If there is no checkpoint of this name.
    """
    if name not in CHECKPOINTS:
        raise ValueError(f"no checkpoint {name!r}: there are {', '.join(CHECKPOINTS)}")
    return _HERE / name


def data_path(name: str) -> Path:
    """Return the file of a shipped text or evaluation set.

    ``calibration`` is plain text from the training split, documents separated by an empty line;
    the others are JSON lines.

    Raises
    ------
    ValueError
        If there is no data of this name.
    """
    if name not in DATA:
        raise ValueError(f"no data {name!r}: there are {', '.join(DATA)}")
    return _HERE / "data" / DATA[name]
