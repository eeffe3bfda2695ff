"""Limit on what a peer may send without completing a message.

ZeroMQ bounds the size of a frame and the number of messages that wait, but not the number of frames
of a message, and keeps them all until the last one has arrived. So the bytes that it has read from
each connection since its last complete message are counted.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from siftmoe.agent.security.connections import Connection

#: Header, pairs, weights and handshake beside the largest frame, generously.
_OTHER_BYTES: Final = 16 * 1024 * 1024
#: Time between checks: at 1 Gbit/s a peer sends 12 MB in it.
CHECK_MS: Final = 100
_CHECK_S: Final = CHECK_MS * 1e-3


class Unfinished:
    """Bytes of incomplete messages by connection.

    Parameters
    ----------
    max_frame_bytes : int
        The largest frame that the socket accepts.
    """

    def __init__(self, *, max_frame_bytes: int) -> None:
        self._limit = max_frame_bytes + _OTHER_BYTES
        self._open: dict[int, Connection] = {}
        self._read: dict[int, int] = {}  # at the last complete message
        self._completed: set[int] = set()
        self._checked_s = -math.inf

    def __len__(self) -> int:
        """Return the number of open connections."""
        return len(self._open)

    def complete(self, descriptor: int) -> None:
        """Record that a message of a connection was received; called by the receiving thread."""
        self._completed.add(descriptor)

    def begin(self, connection: Connection) -> None:
        """Add a connection."""
        self._open[connection.descriptor] = connection
        self._read[connection.descriptor] = 0

    def end(self, descriptor: int) -> None:
        """Remove a connection that has ended."""
        self._open.pop(descriptor, None)
        self._read.pop(descriptor, None)

    def take_excess(self, *, now_s: float) -> list[tuple[Connection, str]]:
        """Take the connections with too many bytes of an incomplete message, with the reason.

        Connections are looked at once in `CHECK_MS`.
        """
        if now_s - self._checked_s < _CHECK_S:
            return []
        self._checked_s = now_s
        completed, self._completed = self._completed, set()
        taken: list[tuple[Connection, str]] = []
        for descriptor, connection in list(self._open.items()):
            try:
                read = connection.progress().read
            except OSError:
                self.end(descriptor)
                continue
            if descriptor in completed:
                self._read[descriptor] = read
            elif read - self._read[descriptor] > self._limit:
                self.end(descriptor)
                taken.append((connection, f"it sent {self._limit} bytes without ending a message"))
        return taken
