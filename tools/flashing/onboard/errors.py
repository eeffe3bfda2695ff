"""Error of a refused command."""

from __future__ import annotations


class BoardError(Exception):
    """A command is refused and the board is unchanged; the message is for the user who flashes."""
