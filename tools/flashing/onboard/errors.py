"""What a board refuses."""

from __future__ import annotations


class BoardError(Exception):
    """What keeps the board as it is; the message is for whoever flashes it."""
