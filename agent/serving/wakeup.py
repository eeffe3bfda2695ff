"""A descriptor that a thread or a signal handler sets and another thread waits for."""

from __future__ import annotations

import contextlib
import os
from typing import Final

_AT_ONCE: Final = 4_096


class Wakeup:
    """A self-pipe: setting it is safe in a signal handler, where taking a lock is not."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe()
        os.set_blocking(self._out, False)
        os.set_blocking(self._in, False)

    def fileno(self) -> int:
        """Return the descriptor, which is readable while this is set."""
        return self._out

    def set(self) -> None:
        """Wake the waiting thread; does nothing after `close`."""
        if self._in >= 0:
            with contextlib.suppress(BlockingIOError):  # full: it is set anyway
                os.write(self._in, b"\0")

    def clear(self) -> None:
        """Reset it, so that a wait blocks again."""
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self._out, _AT_ONCE)) == _AT_ONCE:
                pass

    def close(self) -> None:
        """Close the descriptors."""
        ends = self._in, self._out
        self._in = -1
        for end in ends:
            os.close(end)
