"""Accounts of large replies that were sent and that the peers' machines have not taken yet."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from siftmoe.agent.errors import AgentBusy

if TYPE_CHECKING:
    from zmq import MessageTracker

#: Most bytes of large replies that may be in flight, to all peers together.
MAX_UNREAD_BYTES: Final = 256 * 1024 * 1024


class Unread:
    """Large replies in flight by peer; used under the socket's lock.

    ZeroMQ keeps a reply until the peer's machine has taken it. A peer that sends requests and does
    not read the replies would fill the memory; it may have as much in flight as is free, as in the
    backlog. Small replies are bounded by their number, in the socket.
    """

    def __init__(self) -> None:
        self._sent: dict[bytes, deque[tuple[MessageTracker, int]]] = {}

    def __bool__(self) -> bool:
        """Whether any reply is accounted for; needs no lock."""
        return bool(self._sent)

    def note(self, peer: bytes, tracker: MessageTracker, num_bytes: int) -> None:
        """Add a reply."""
        self._sent.setdefault(peer, deque()).append((tracker, num_bytes))

    def check(self, peer: bytes) -> None:
        """Check whether a peer may send another request.

        Raises
        ------
        AgentBusy
            If too many bytes of replies to it are in flight.
        """
        self._forget_delivered()
        owed = self._owed(peer)
        if owed and owed >= MAX_UNREAD_BYTES - sum(map(self._owed, self._sent)):
            raise AgentBusy(
                f"{owed} bytes of replies to you are not read, the limit is {MAX_UNREAD_BYTES} for "
                f"all and as much as is free for one; read them first"
            )

    def _owed(self, peer: bytes) -> int:
        return sum(num_bytes for _, num_bytes in self._sent.get(peer, ()))

    def _forget_delivered(self) -> None:
        for peer, sent in list(self._sent.items()):
            while sent and sent[0][0].done:
                sent.popleft()
            if not sent:
                del self._sent[peer]
