"""Limits on connections that are not authenticated yet: their number and the bytes they may send.

ZeroMQ reads a handshake message of any size up to its limit for messages, and keeps a silent
connection for 30 s, so strangers could take memory and descriptors from the agent. ZeroMQ does not
report which connection has completed its handshake. The number of bytes that the peer has
acknowledged tells it:

============================  ===========================================  =====
the agent sends to            what                                         bytes
============================  ===========================================  =====
an unauthenticated peer       greeting 64, WELCOME 170, ERROR at most 13     247
an authenticated peer         greeting 64, WELCOME 170, READY at least 67    301
============================  ===========================================  =====

(ZMTP 3.1 with CURVE, ZeroMQ RFCs 23, 25 and 26.) A client sends messages only after it has received
READY, so a peer that has sent much and acknowledged little is not authenticated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from siftmoe.agent.security.connections import Connection

#: An unauthenticated peer acknowledges fewer bytes, an authenticated one more.
_AUTHENTICATED_BYTES: Final = 274
#: A handshake takes less than 2 KB; ZeroMQ reads up to 8 KB at once.
MAX_HANDSHAKE_BYTES: Final = 64 * 1024
#: Handshakes at a time. One takes a few round trips, so this many are a flood or a port scan.
MAX_HANDSHAKES: Final = 256
#: Time between checks while a connection is in its handshake: at 1 Gbit/s strangers send 1.25 MB in
#: it. A check takes 5 µs for each of them.
CHECK_MS: Final = 10


class Handshakes:
    """Connections that are not authenticated yet, the oldest first."""

    def __init__(self) -> None:
        self._pending: dict[int, Connection] = {}

    def __len__(self) -> int:
        """Return the number of connections that were not authenticated at the last check."""
        return len(self._pending)

    def begin(self, connection: Connection) -> None:
        """Add a connection."""
        self._pending.pop(connection.descriptor, None)
        self._pending[connection.descriptor] = connection

    def end(self, descriptor: int) -> None:
        """Remove a connection that has ended."""
        self._pending.pop(descriptor, None)

    def take_excess(self) -> list[tuple[Connection, str]]:
        """Forget authenticated connections, and take those beyond the limits with the reason."""
        taken: list[tuple[Connection, str]] = []
        for connection in list(self._pending.values()):
            try:
                progress = connection.progress()
            except OSError:
                self.end(connection.descriptor)
                continue
            if progress.acknowledged >= _AUTHENTICATED_BYTES:
                self.end(connection.descriptor)
            elif progress.read > MAX_HANDSHAKE_BYTES:
                self.end(connection.descriptor)
                reason = f"it sent more than {MAX_HANDSHAKE_BYTES} bytes in the handshake"
                taken.append((connection, reason))
        oldest = list(self._pending.values())[: max(0, len(self._pending) - MAX_HANDSHAKES)]
        for connection in oldest:
            self.end(connection.descriptor)
            taken.append(
                (connection, f"more than {MAX_HANDSHAKES} connections are in their handshake")
            )
        return taken
