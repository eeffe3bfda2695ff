"""ZAP authenticator: admits or refuses each connecting CURVE key and counts refusals.

ZeroMQ makes a ZAP request (ZeroMQ RFC 27) before it admits a connection; until the reply no message
of the peer reaches the agent's loop. A peer that does not know this agent's key or does not speak
ZeroMQ fails earlier, without a ZAP request. So all connections and all completed handshakes are
counted too: the difference is the number of connections that failed.
"""

from __future__ import annotations

import contextlib
import logging
import struct
import threading
import time
from typing import TYPE_CHECKING, Final

import zmq
from zmq.utils import z85

from siftmoe.agent.security import handshakes, unfinished
from siftmoe.agent.security.arrivals import Arrivals
from siftmoe.agent.security.connections import Connection
from siftmoe.agent.security.descriptors import is_reserved
from siftmoe.agent.security.handshakes import Handshakes
from siftmoe.agent.security.peer_log import PeerLog
from siftmoe.agent.security.unfinished import Unfinished
from siftmoe.agent.wire.bounds import MAX_FRAME_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from siftmoe.agent.security.keys import Credentials

logger = logging.getLogger(__name__)

_ZAP: Final = "inproc://zeromq.zap.01"
_ZAP_VERSION: Final = b"1.0"
_MONITOR: Final = "inproc://siftmoe-monitor"
#: Least number of frames of a ZAP request: route, an empty frame, version, request id, domain,
#: address, identity, mechanism; with CURVE the key follows.
_ZAP_FRAMES: Final = 8

#: Counters of connections, by the monitor's event. EVENT_HANDSHAKE_FAILED_PROTOCOL must not be
#: among them: libzmq 4.3.5 emits it after it has set errno and before it reads it, which changes
#: errno, so that a forged message on an open connection is treated like a full pipe. The connection
#: then stays open, and when its peer closes it, the next heartbeat aborts the process.
_COUNTED: Final[dict[int, str]] = {
    int(zmq.EVENT_ACCEPTED): "connections",
    int(zmq.EVENT_HANDSHAKE_SUCCEEDED): "connections_greeted",
}
_BEGAN: Final = int(zmq.EVENT_ACCEPTED)
_ENDED: Final = int(zmq.EVENT_DISCONNECTED)
#: Most events that are read before a ZAP request is answered, so that a flood of connections does
#: not delay authentication.
_EVENTS_AT_ONCE: Final = 1000
_FAILED_HANDSHAKE: Final = (
    "its connection ended in the handshake: it has another key for this agent, does not encrypt, "
    "or does not speak ZeroMQ"
)
_NO_DESCRIPTOR: Final = (
    "no descriptor is free for its connection: too many are open; raise the limit (LimitNOFILE in "
    "the unit, ulimit -n), or find out who connects so often"
)


class Authenticator:
    """Answers ZAP requests on a thread of its own, which ends when the context is terminated.

    Parameters
    ----------
    context : zmq.Context
        Context of the agent's socket.
    credentials : Credentials or None
        Keys to admit; None where connections are not encrypted and every peer is admitted.
    count : callable
        Called with a counter's name for each connection event and decision, on this thread.
    unfinished : Unfinished or None
        Is told by the receiving thread which connections complete messages.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        *,
        credentials: Credentials | None,
        count: Callable[[str], None],
        unfinished: Unfinished | None = None,
    ) -> None:
        self._context = context
        self._count = count
        self._peer_log = PeerLog(logger)
        self._names: dict[bytes, str] = {}
        self._arrivals = Arrivals()
        self._handshakes = Handshakes()
        if unfinished is None:
            unfinished = Unfinished(max_frame_bytes=MAX_FRAME_BYTES)
        self._unfinished = unfinished
        self._zap: zmq.Socket[bytes] | None = None
        if credentials is not None:
            self._names = {
                z85.decode(key.encode()): name for key, name in credentials.allowed.items()
            }
            self._zap = context.socket(zmq.ROUTER)
            self._zap.linger = 0
            self._zap.bind(_ZAP)

    def guard(self, router: zmq.Socket[bytes]) -> None:
        """Start the thread; it observes every connection to the socket from now on."""
        router.monitor(_MONITOR, sum(_COUNTED) | _ENDED)
        events = self._context.socket(zmq.PAIR)
        events.rcvhwm = 0  # with a limit, ZeroMQ's I/O thread would wait for space
        events.linger = 0
        events.connect(_MONITOR)
        threading.Thread(
            target=self._run, args=(events,), name="authenticator", daemon=True
        ).start()

    def close(self) -> None:
        """Close the ZAP socket if the thread was not started; a running thread closes it itself."""
        if self._zap is not None:
            self._zap.close()

    def _run(self, events: zmq.Socket[bytes]) -> None:
        poller = zmq.Poller()
        poller.register(events, zmq.POLLIN)
        if self._zap is not None:
            poller.register(self._zap, zmq.POLLIN)
        try:
            while True:
                ready = dict(poller.poll(self._check_ms()))
                # Events first: a connection begins before its ZAP request.
                self._take_events(_waiting(events))
                self._close_excess()
                if self._zap is not None and self._zap in ready:
                    self._zap.send_multipart(self._answer(self._zap.recv_multipart()))
        except zmq.ContextTerminated:
            pass
        except Exception:
            # From here on no new connection is admitted, which is the safe side.
            logger.exception("the authenticator ends: no further connection is admitted")
        finally:
            events.close()
            self.close()

    def _answer(self, frames: list[bytes]) -> list[bytes]:
        """Return the reply to a ZAP request: 200 with the key's name, or 400."""
        if len(frames) < _ZAP_FRAMES:
            logger.error("ZAP request of an unknown form: %d frames", len(frames))
            return [*frames[:2], _ZAP_VERSION, b"", b"500", b"", b"", b""]
        route, empty, version, request, _domain, address, _identity, mechanism, *keys = frames
        self._arrivals.asked(address.decode("ascii", "replace"))
        name = None
        if version == _ZAP_VERSION and mechanism == b"CURVE" and len(keys) == 1:
            name = self._names.get(keys[0])
        if name is None:
            self._refuse_key(address.decode("ascii", "replace"), mechanism, keys)
            return [route, empty, _ZAP_VERSION, request, b"400", b"not on the allow-list", b"", b""]
        self._count("admitted")
        logger.info("peer %s is %r", address.decode("ascii", "replace"), name)
        return [route, empty, _ZAP_VERSION, request, b"200", b"", name.encode(), b""]

    def _refuse_key(self, address: str, mechanism: bytes, keys: list[bytes]) -> None:
        self._count("refused_key")
        encrypted = mechanism == b"CURVE" and len(keys) == 1 and len(keys[0]) == 32
        shown = z85.encode(keys[0]).decode() if encrypted else "none"
        self._peer_log.warn_once(
            "refused_key",
            peer=f"{address} with key {shown}",
            reason="its key is not on the allow-list",
        )

    def _take_events(self, events: list[tuple[int, int]]) -> None:
        """Count events, and log the addresses of connections that ended in the handshake."""
        ends = {descriptor: at for at, (what, descriptor) in enumerate(events) if what == _ENDED}
        for place, (what, descriptor) in enumerate(events):
            if what in _COUNTED:
                self._count(_COUNTED[what])
            if what == _ENDED:
                self._end(descriptor)
            elif what == _BEGAN and ends.get(descriptor, -1) < place:  # it is still open
                self._begin(descriptor)

    def _check_ms(self) -> int | None:
        """Return the time to the next check; None without connections."""
        if self._handshakes:
            return handshakes.CHECK_MS
        return unfinished.CHECK_MS if self._unfinished else None

    def _close_excess(self) -> None:
        """Close connections beyond the limits, count and log them."""
        for connection, reason in self._handshakes.take_excess():
            self._count("handshakes_closed")
            self._peer_log.warn_once("handshake", peer=connection.address, reason=reason)
            connection.shut_down()
        for connection, reason in self._unfinished.take_excess():
            self._count("messages_unfinished")
            self._peer_log.warn_once("unfinished", peer=connection.address, reason=reason)
            connection.shut_down()

    def _begin(self, descriptor: int) -> None:
        """Observe a connection from its begin, unless it takes one of the last descriptors."""
        connection = Connection.of(descriptor)
        if connection is None:
            return
        if is_reserved(descriptor):
            self._count("connections_refused")
            self._peer_log.warn_once("descriptors", peer=connection.address, reason=_NO_DESCRIPTOR)
            connection.shut_down()
            return
        self._unfinished.begin(connection)
        if self._zap is not None:  # without ZAP requests failed handshakes cannot be told
            self._arrivals.begin(descriptor, connection.address, now_s=time.monotonic())
            self._handshakes.begin(connection)

    def _end(self, descriptor: int) -> None:
        """Forget a connection that has ended; log its address if it failed in the handshake."""
        self._handshakes.end(descriptor)
        self._unfinished.end(descriptor)
        if address := self._arrivals.end(descriptor, now_s=time.monotonic()):
            self._peer_log.warn_once("handshake", peer=address, reason=_FAILED_HANDSHAKE)


def _waiting(events: zmq.Socket[bytes]) -> list[tuple[int, int]]:
    """Read the waiting monitor events, at most `_EVENTS_AT_ONCE`: (event, descriptor)."""
    found: list[tuple[int, int]] = []
    with contextlib.suppress(zmq.Again):
        while len(found) < _EVENTS_AT_ONCE:
            what, descriptor = struct.unpack("=HI", events.recv_multipart(zmq.NOBLOCK)[0])
            found.append((what, descriptor))
    return found
