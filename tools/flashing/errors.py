"""Errors of flashing.

::

    FlashError
    ├── ReleaseError     a release cannot be built on this workstation
    ├── BoardUnreachable no SSH session, or one that broke
    └── BoardRefused     a board that does not do what it was asked, and says why
"""

from __future__ import annotations


class FlashError(Exception):
    """Root of what can go wrong while boards are flashed."""


class ReleaseError(FlashError):
    """A release cannot be built on this workstation."""


class BoardUnreachable(FlashError):
    """No SSH session to a board, or one that broke."""


class BoardRefused(FlashError):
    """A board does not do what it was asked; it stays as it was."""
