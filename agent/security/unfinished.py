"""Limit on what a peer may send without completing a message.

ZeroMQ bounds the size of a frame and the number of messages that wait, but not the number of frames
of a message, and keeps them all until the last one has arrived. So bytes that it reads from a
connection are counted, and it is asked which connections complete messages.

A connection is closed if all of this holds: more bytes were read from it than the largest message
has; after that the socket was found empty; and since the first of the bytes no message came from
it. An empty socket shows that no complete message waits: what is still there is one that has not
ended. Messages that merely wait at a busy agent leave the socket not empty, however many they are.
Our own rule ([D]): between two readings of the connection ZeroMQ's thread may hold one read that it
has not passed on, of 8 KB or of a part of one frame, which `_OTHER_BYTES` has room for.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from siftmoe.agent.security.connections import Connection

#: Header, pairs, weights and handshake beside the largest frame: at most 12.5 MiB, and room.
_OTHER_BYTES: Final = 16 * 1024 * 1024
#: Time between checks: at 1 Gbit/s a peer sends 12 MB in it.
CHECK_MS: Final = 100
_CHECK_S: Final = CHECK_MS * 1e-3


@dataclass(slots=True)
class _Account:
    connection: Connection
    completed: int  # messages at the last check
    read: int = 0  # bytes at the last check that found a further message
    beyond_s: float | None = None  # when more than the largest message was first counted


class Unfinished:
    """Bytes of incomplete messages by connection.

    The receiving thread calls `complete` and `emptied`, another one all else.

    Parameters
    ----------
    max_frame_bytes : int
        The largest frame that the socket accepts.
    clock : callable
        Seconds.
    """

    def __init__(
        self, *, max_frame_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = max_frame_bytes + _OTHER_BYTES
        self._clock = clock
        self._accounts: dict[int, _Account] = {}
        # Counters that only grow, so that the other thread's reading loses nothing.
        self._completed: dict[int, int] = {}
        self._nameless = 0
        self._empty_s = -math.inf
        self._checked_s = -math.inf
        self._look: Callable[[], None] = _nothing

    def __len__(self) -> int:
        """Return the number of open connections."""
        return len(self._accounts)

    def ask(self, look: Callable[[], None]) -> None:
        """Set what makes the receiving thread look at its socket, so that it tells if it is empty.

        That thread waits for complete messages, and would not look while there is none.
        """
        self._look = look

    def complete(self, descriptor: int | None) -> None:
        """Record that a message of a connection was received; of any of them if None."""
        if descriptor is None:
            self._nameless += 1
        else:
            self._completed[descriptor] = self._completed.get(descriptor, 0) + 1

    def emptied(self) -> None:
        """Record that the socket had no message to receive."""
        self._empty_s = self._clock()

    def begin(self, connection: Connection) -> None:
        """Add a connection."""
        descriptor = connection.descriptor
        self._accounts[descriptor] = _Account(connection, self._count(descriptor))

    def end(self, descriptor: int) -> None:
        """Remove a connection that has ended."""
        self._accounts.pop(descriptor, None)

    def take_excess(self) -> list[tuple[Connection, str]]:
        """Take the connections with too many bytes of an incomplete message, with the reason.

        Connections are looked at once in `CHECK_MS`.
        """
        now_s = self._clock()
        if now_s - self._checked_s < _CHECK_S:
            return []
        self._checked_s = now_s
        empty_s = self._empty_s  # before the counts: what came before it is counted
        taken: list[tuple[Connection, str]] = []
        for descriptor, account in list(self._accounts.items()):
            try:
                ended = self._is_endless(account, empty_s)
            except OSError:
                self.end(descriptor)
                continue
            if ended:
                self.end(descriptor)
                reason = f"it sent more than {self._limit} bytes without ending a message"
                taken.append((account.connection, reason))
        return taken

    def _is_endless(self, account: _Account, empty_s: float) -> bool:
        completed = self._count(account.connection.descriptor)
        read = account.connection.progress().read
        if completed != account.completed:
            account.completed, account.read, account.beyond_s = completed, read, None
        elif account.beyond_s is not None:
            return empty_s > account.beyond_s
        elif read - account.read > self._limit:
            account.beyond_s = self._clock()
            self._look()
        return False

    def _count(self, descriptor: int) -> int:
        return self._completed.get(descriptor, 0) + self._nameless


def _nothing() -> None:
    """Do nothing; before the socket is there."""
