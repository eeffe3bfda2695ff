"""Consoles for the result and for everything else; they print text as it is, without markup."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.text import Text

from siftmoe.tools.terminal.text import readable

if TYPE_CHECKING:
    from rich.console import JustifyMethod, OverflowMethod
    from rich.style import Style

#: Width of a table in a file or a pipe, which have no terminal width.
_PIPE_WIDTH: Final = 200
#: More than any line has.
_ANY_WIDTH: Final = 10_000


class PlainConsole(Console):
    """A console that never reads markup or emoji names in a text.

    Here every text becomes Rich text: a prompt ``[INST] hi [/INST]``, a table's name ``[sounding]``
    in an error, an agent's reason. Styles are given as arguments, or as `rich.text.Text`.
    """

    def render_str(
        self,
        text: str,
        *,
        style: str | Style = "",
        justify: JustifyMethod | None = None,
        overflow: OverflowMethod | None = None,
        **_: Any,
    ) -> Text:
        """Return the text itself, in one style."""
        return Text(readable(text), style=style, justify=justify, overflow=overflow)


def stderr_console() -> Console:
    """Return a console on stderr, for everything but the result."""
    return PlainConsole(stderr=True, highlight=False)


def stdout_console(*, wide: bool = False) -> Console:
    """Return a console on stdout for the result; with ``wide`` no line is broken."""
    if wide:
        return PlainConsole(width=_ANY_WIDTH, highlight=False)
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return PlainConsole(width=width, highlight=False)
