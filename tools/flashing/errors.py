"""Errors of flashing.

::

    FlashError
    ├── ReleaseError     a release cannot be built on this workstation
    ├── BoardUnreachable no SSH session, or one that broke
    └── BoardRefused     a board refuses a command, with a reason
"""

from __future__ import annotations


class FlashError(Exception):
    """Base class of errors while boards are flashed."""


class ReleaseError(FlashError):
    """A release cannot be built on this workstation."""


class BoardUnreachable(FlashError):
    """No SSH session to a board, or one that broke."""


class BoardRefused(FlashError):
    """A board refuses a command; its state is unchanged."""
