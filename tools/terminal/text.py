"""Text of users, files and peers, made safe for a terminal."""

from __future__ import annotations

import unicodedata
from typing import Final

#: Control characters that keep their meaning.
_KEPT: Final = "\n\t"


def readable(text: str) -> str:
    """Return a text with visible escapes instead of control characters.

    A peer's text could otherwise move the cursor, clear the screen or rename the window.
    """
    if text.isprintable():
        return text
    return "".join(c if c in _KEPT or unicodedata.category(c) != "Cc" else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
