"""Calibration text, and the windows of tokens that are cut from it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.models.tasks.files import read_text
from siftmoe.models.tasks.sequences import encode, start_token

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.models.tasks.sequences import TextTokenizer

#: With fewer windows the standard errors are meaningless.
MIN_WINDOWS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationText:
    """A text and its name."""

    name: str
    text: str

    @classmethod
    def read(cls, path: str | Path) -> CalibrationText:
        """Read a file of plain text, documents separated by empty lines.

        Raises
        ------
        TaskDataError
            If it is missing, empty or not UTF-8.
        """
        return cls(name=Path(path).name, text=read_text(Path(path)))

    @property
    def sha256(self) -> str:
        """Hash of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def calibration_windows(
    text: CalibrationText, tokenizer: TextTokenizer, *, max_tokens: int, window: int, seed: int
) -> NDArray[np.int64]:
    """Cut a text into windows of equal length and draw some of them.

    Each document begins with the tokenizer's start token; windows cross document borders, as in
    training. Windows are drawn without replacement and keep the text's order.

    Parameters
    ----------
    text : CalibrationText
    tokenizer : TextTokenizer
    max_tokens : int
        Most tokens of all windows together.
    window : int
        Tokens of a window.
    seed : int
        Seed of the draw.

    Returns
    -------
    (B, window) int64

    Raises
    ------
    ValueError
        If there are fewer than ``MIN_WINDOWS`` windows.
    """
    start = start_token(tokenizer)
    documents = [part for part in text.text.split("\n\n") if part.strip()]
    stream = [token for part in documents for token in (start, *encode(tokenizer, part.strip()))]
    available = len(stream) // window
    wanted = min(available, max_tokens // window)
    if wanted < MIN_WINDOWS:
        raise ValueError(
            f"calibration text {text.name!r} has {len(stream)} tokens, of which at most "
            f"{max_tokens} are used: {wanted} windows of {window}, {MIN_WINDOWS} are needed; give "
            f"a longer text or more tokens"
        )
    windows = np.array(stream[: available * window], dtype=np.int64).reshape(available, window)
    chosen = np.random.default_rng(seed).choice(available, size=wanted, replace=False)
    drawn: NDArray[np.int64] = windows[np.sort(chosen)]
    return drawn
