"""Turns of threads: one forward pass at a time, whoever calls the model."""

from __future__ import annotations

import threading
from typing import Final

#: How often a waiting thread looks whether the one before it has died in its forward pass.
LOOK_S: Final = 0.5


class Turns:
    """Lets one thread run forward passes until its outermost pass ends; others wait."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._owner: threading.Thread | None = None

    def take(self) -> None:
        """Wait for this thread's turn; a thread that has it already keeps it."""
        me = threading.current_thread()
        with self._changed:
            while self._owner not in (None, me) and self._owner_lives():
                self._changed.wait(LOOK_S)
            self._owner = me

    def pass_on(self) -> None:
        """Let another thread have its turn."""
        with self._changed:
            self._owner = None
            self._changed.notify()

    def mine(self) -> bool:
        """Whether this thread has its turn."""
        return self._owner is threading.current_thread()

    def _owner_lives(self) -> bool:
        return self._owner is not None and self._owner.is_alive()
