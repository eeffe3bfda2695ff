"""Who may connect to an agent: answers ZeroMQ's question for each key, and counts who is refused.

ZeroMQ asks before a connection is let through (ZAP, ZeroMQ RFC 27); until it is answered nothing of
the peer reaches the agent's loop. What fails earlier, because it does not know this agent's key or
does not speak ZeroMQ, is turned away by ZeroMQ without a word, so all connections are counted and
all that were greeted: the difference is what was turned away.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Final

import zmq
from zmq.utils import z85

from siftmoe.agent.security.arrivals import Arrivals
from siftmoe.agent.security.peer_log import PeerLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from siftmoe.agent.security.keys import Credentials

logger = logging.getLogger(__name__)

_ZAP: Final = "inproc://zeromq.zap.01"
_ZAP_VERSION: Final = b"1.0"
_MONITOR: Final = "inproc://siftmoe-monitor"
#: Route, an empty frame, version, request, domain, address, identity, mechanism; then the key.
_ZAP_FRAMES: Final = 8

#: Counters of connections, by the monitor's event. EVENT_HANDSHAKE_FAILED_PROTOCOL must not be
#: among them: libzmq 4.3.5 tells of it between failing and saying how, and where it is told, a
#: forged message on an open connection is taken for one that has to wait. The connection then stays
#: open, and when its peer goes, the next heartbeat aborts the process.
_COUNTED: Final[dict[int, str]] = {
    int(zmq.EVENT_ACCEPTED): "connections",
    int(zmq.EVENT_HANDSHAKE_SUCCEEDED): "connections_greeted",
}
_BEGAN: Final = int(zmq.EVENT_ACCEPTED)
_ENDED: Final = int(zmq.EVENT_DISCONNECTED)
#: Events taken in before a question is answered, so that a flood cannot keep others out.
_EVENTS_AT_ONCE: Final = 1000
_TURNED_AWAY: Final = (
    "its connection ended in the greeting: it has another key for this agent, does not encrypt, or "
    "does not speak ZeroMQ"
)


class Authenticator:
    """Stands at an agent's door on a thread of its own, which ends with the context.

    Parameters
    ----------
    context : zmq.Context
        Of the socket that is guarded.
    credentials : Credentials or None
        Whom to admit; None where connections are not encrypted, and anybody is.
    count : callable
        Called with the name of a counter for each refusal, on the authenticator's thread.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        *,
        credentials: Credentials | None,
        count: Callable[[str], None],
    ) -> None:
        self._context = context
        self._count = count
        self._peer_log = PeerLog(logger)
        self._names: dict[bytes, str] = {}
        self._arrivals = Arrivals()
        self._zap: zmq.Socket[bytes] | None = None
        if credentials is not None:
            self._names = {
                z85.decode(key.encode()): name for key, name in credentials.allowed.items()
            }
            self._zap = context.socket(zmq.ROUTER)
            self._zap.linger = 0
            self._zap.bind(_ZAP)

    def guard(self, router: zmq.Socket[bytes]) -> None:
        """Begin; from here on every connection to the socket is looked at."""
        router.monitor(_MONITOR, sum(_COUNTED) | _ENDED)
        events = self._context.socket(zmq.PAIR)
        events.rcvhwm = 0  # ZeroMQ's own thread would wait for room
        events.linger = 0
        events.connect(_MONITOR)
        threading.Thread(
            target=self._run, args=(events,), name="authenticator", daemon=True
        ).start()

    def close(self) -> None:
        """Leave where nothing was guarded yet; a thread that runs ends with the context."""
        if self._zap is not None:
            self._zap.close()

    def _run(self, events: zmq.Socket[bytes]) -> None:
        poller = zmq.Poller()
        poller.register(events, zmq.POLLIN)
        if self._zap is not None:
            poller.register(self._zap, zmq.POLLIN)
        try:
            while True:
                ready = dict(poller.poll())
                # Events first: a connection begins before it is asked about.
                self._take_events(_waiting(events))
                if self._zap is not None and self._zap in ready:
                    self._zap.send_multipart(self._answer(self._zap.recv_multipart()))
        except zmq.ContextTerminated:
            pass
        except Exception:
            # Nobody new is admitted from here on, which is the safe side.
            logger.exception("the authenticator ends: no further connection is admitted")
        finally:
            events.close()
            self.close()

    def _answer(self, frames: list[bytes]) -> list[bytes]:
        """Answer a question of ZeroMQ's: 200 with the name, or 400."""
        if len(frames) < _ZAP_FRAMES:
            logger.error("ZeroMQ asked in an unknown form: %d frames", len(frames))
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
        """Count events, and name the addresses of connections that ended in the greeting."""
        ends = {descriptor: at for at, (what, descriptor) in enumerate(events) if what == _ENDED}
        for place, (what, descriptor) in enumerate(events):
            if what in _COUNTED:
                self._count(_COUNTED[what])
            if self._zap is not None:  # else nobody is asked about, and who was greeted not known
                self._keep(what, descriptor, still_open=ends.get(descriptor, -1) < place)

    def _keep(self, what: int, descriptor: int, *, still_open: bool) -> None:
        """Keep the address of a connection that begins, until it ends."""
        now_s = time.monotonic()
        if what == _ENDED:
            if address := self._arrivals.end(descriptor, now_s=now_s):
                self._peer_log.warn_once("greeting", peer=address, reason=_TURNED_AWAY)
        elif what == _BEGAN and still_open and (address := _address_of(descriptor)):
            self._arrivals.begin(descriptor, address, now_s=now_s)


def _waiting(events: zmq.Socket[bytes]) -> list[tuple[int, int]]:
    """Take in the events that have come, of a flood the first ones: number and value."""
    found: list[tuple[int, int]] = []
    with contextlib.suppress(zmq.Again):
        while len(found) < _EVENTS_AT_ONCE:
            what, descriptor = struct.unpack("=HI", events.recv_multipart(zmq.NOBLOCK)[0])
            found.append((what, descriptor))
    return found


def _address_of(descriptor: int) -> str:
    """Whose end of a connection it is; empty if it has ended, or is none of a network."""
    try:
        copy = os.dup(descriptor)
    except OSError:
        return ""
    try:  # what has the number by now need not be a connection, nor a socket
        connection = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        return ""
    with connection, contextlib.suppress(OSError):
        peer = connection.getpeername()
        return str(peer[0]) if isinstance(peer, tuple) else ""
    return ""
