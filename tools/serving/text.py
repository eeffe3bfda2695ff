"""Makes text of tokens as they come, and ends it before a stop text."""

from __future__ import annotations

from typing import Any

#: What a decoder writes for bytes that are no whole character yet.
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class TextAssembler:
    """Text of a growing list of tokens.

    Text is held back while a later token may still change it: an incomplete character, or the
    beginning of a stop text.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
    stop : tuple of str
    """

    def __init__(self, tokenizer: Any, stop: tuple[str, ...]) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._ids: list[int] = []
        self._told = 0
        self.stopped = False

    def add(self, token: int) -> str:
        """Add a token, and return the text that is now certain."""
        self._ids.append(token)
        text = self._decode()
        ends = [at for stop in self._stop if (at := text.find(stop, self._told)) >= 0]
        if ends:
            self.stopped = True
            return self._tell(text, min(ends))
        whole = len(text.rstrip(_INCOMPLETE)) if text.endswith(_INCOMPLETE) else len(text)
        return self._tell(text, max(self._told, whole - self._held(text[:whole])))

    def rest(self) -> str:
        """Return what was held back, at the end."""
        text = self._decode()
        return "" if self.stopped else self._tell(text, len(text))

    def _decode(self) -> str:
        return str(self._tokenizer.decode(self._ids, skip_special_tokens=True))

    def _tell(self, text: str, end: int) -> str:
        piece, self._told = text[self._told : end], max(self._told, end)
        return piece

    def _held(self, text: str) -> int:
        """Count the characters at the end that may begin a stop text."""
        return max(
            (
                length
                for stop in self._stop
                for length in range(1, len(stop))
                if text.endswith(stop[:length])
            ),
            default=0,
        )
