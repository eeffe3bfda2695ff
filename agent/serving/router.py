"""The agent's ROUTER socket as its threads share it: receive, send, count what cannot be sent.

A ZeroMQ socket may be used by one thread at a time, so every use takes its lock.
"""

from __future__ import annotations

import logging
import select
import threading
from typing import TYPE_CHECKING

from siftmoe.agent.serving.sockets import (
    descriptor_of,
    endpoint_of,
    has_arrived,
    receive,
    remove_path,
    send,
)
from siftmoe.agent.serving.unread import Unread
from siftmoe.agent.serving.wakeup import Wakeup
from siftmoe.agent.wire.protocol import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    import zmq

    from siftmoe.agent.security.unfinished import Unfinished
    from siftmoe.agent.wire.protocol import Frame, Reply

logger = logging.getLogger(__name__)


class SharedRouter:
    """A bound ROUTER socket and the descriptor that wakes the waiting thread.

    Parameters
    ----------
    socket : zmq.Socket
        The ROUTER, bound.
    count : callable
        Called with the name of a counter for each reply that cannot be delivered.
    unfinished : Unfinished or None
        Is told of each message, and when there is none.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        *,
        count: Callable[[str], None],
        unfinished: Unfinished | None = None,
    ) -> None:
        self._socket = socket
        self._count = count
        self._unfinished = unfinished
        self._on_message = None if unfinished is None else unfinished.complete
        self._lock = threading.Lock()  # around every use of the socket
        self._unread = Unread()
        self._closed = False
        self._wakeup = Wakeup()
        self._poll = select.poll()
        self._poll.register(descriptor_of(socket), select.POLLIN)
        self._poll.register(self._wakeup, select.POLLIN)
        self.endpoint = endpoint_of(socket)
        if unfinished is not None:
            unfinished.ask(self.wake)

    def wake(self) -> None:
        """End a wait; may be called from a signal handler or another thread."""
        self._wakeup.set()

    def wait(self) -> None:
        """Wait until something arrives or :meth:`wake` is called.

        ZeroMQ's descriptor announces only what arrives after a look at the socket, so everything
        must be received before.
        """
        if any(found == self._wakeup.fileno() for found, _ in self._poll.poll()):
            self._wakeup.clear()

    def receive(self) -> list[Frame] | None:
        """Receive one message, the peer's routing id first; None if none has arrived."""
        with self._lock:
            if self._closed:
                return None
            if has_arrived(self._socket):
                return receive(self._socket, on_message=self._on_message)
            if self._unfinished is not None:
                self._unfinished.emptied()
            return None

    def check_unread(self, peer: bytes) -> None:
        """Raise AgentBusy if a peer has too many replies to read before it may ask for more."""
        if self._unread:
            with self._lock:
                self._unread.check(peer)

    def send(self, peer: bytes, reply: Reply, *, role: str, may_wake: bool) -> None:
        """Send a reply, or count it as undeliverable.

        Parameters
        ----------
        peer : bytes
            Routing id.
        reply : Reply
        role : "listening", "computing" or "sounding"
            What the calling thread does, for the counter's name.
        may_wake : bool
            Whether another thread may be waiting for arrivals: sending can take the descriptor's
            announcement of an arrival away from it.
        """
        frames = encode(reply)
        with self._lock:
            if self._closed:
                return
            sent = send(self._socket, peer, frames, on_large=self._unread.note)
            missed = may_wake and has_arrived(self._socket)
        if missed:
            self._wakeup.set()
        if not sent:
            self._count(f"undeliverable_{role}")
            logger.info("peer %s is gone or does not read; a reply is lost", peer.hex())

    def close(self) -> None:
        """Close the socket; a thread that still computes finds nothing to receive or send."""
        with self._lock:
            self._closed = True
            self._socket.close()

    def release(self) -> None:
        """Give the wake-up descriptor back, once no thread can wait any more."""
        self._wakeup.close()

    def remove_path(self) -> None:
        """Remove the file that binding an ``ipc://`` address made."""
        remove_path(self.endpoint)
