"""Who may connect to an agent: answers ZeroMQ's question for each key, and counts who is refused.

ZeroMQ asks before a connection is let through (ZAP, ZeroMQ RFC 27); until it is answered nothing of
the peer reaches the agent's loop. What fails earlier, because it does not know this agent's key or
does not speak ZeroMQ, is turned away by ZeroMQ without a word: a connection that ends before it was
greeted is that.
"""

from __future__ import annotations

import logging
import socket
import struct
import threading
from typing import TYPE_CHECKING, Final

import zmq
from zmq.utils import z85

from siftmoe.agent.complaints import MAX_PEERS, Complaints

if TYPE_CHECKING:
    from collections.abc import Callable

    from siftmoe.agent.keys import Credentials

logger = logging.getLogger(__name__)

_ZAP: Final = "inproc://zeromq.zap.01"
_ZAP_VERSION: Final = b"1.0"
_MONITOR: Final = "inproc://siftmoe-doorman"
#: Route, an empty frame, version, request, domain, address, identity, mechanism; then the key.
_ZAP_FRAMES: Final = 8

#: Counters of connections, by the monitor's event, whose value is the connection's descriptor.
#: EVENT_HANDSHAKE_FAILED_PROTOCOL must not be watched: libzmq 4.3.5 tells of it between failing and
#: saying how, and where it is told, a forged message on an open connection is taken for one that
#: has to wait. The connection then stays open, and when its peer goes, the next heartbeat aborts
#: the process.
_COUNTED: Final[dict[int, str]] = {
    int(zmq.EVENT_ACCEPTED): "connections",
    int(zmq.EVENT_HANDSHAKE_SUCCEEDED): "connections_greeted",
}
_ACCEPTED: Final = int(zmq.EVENT_ACCEPTED)
_ENDED: Final = int(zmq.EVENT_DISCONNECTED)


class Doorman:
    """Stands at an agent's door on a thread of its own, which ends with the context.

    Parameters
    ----------
    context : zmq.Context
        Of the socket that is guarded.
    credentials : Credentials or None
        Whom to admit; None where connections are not encrypted, and anybody is.
    count : callable
        Called with the name of a counter for each refusal, on the doorman's thread.
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
        self._complaints = Complaints(logger)
        self._names: dict[bytes, str] = {}
        self._greeting: dict[int, str] = {}  # descriptor -> address, of who was not greeted yet
        self._strangers: set[str] = set()  # addresses of those whose key was refused
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
        threading.Thread(target=self._run, args=(events,), name="doorman", daemon=True).start()

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
                for ready, _ in poller.poll():
                    if ready is events:
                        self._take_event(events.recv_multipart())
                    elif self._zap is not None:
                        self._zap.send_multipart(self._answer(self._zap.recv_multipart()))
        except zmq.ContextTerminated:
            pass
        except Exception:
            # Nobody new is admitted from here on, which is the safe side.
            logger.exception("the doorman ends: no further connection is admitted")
        finally:
            events.close()
            self.close()

    def _answer(self, frames: list[bytes]) -> list[bytes]:
        """Answer a question of ZeroMQ's: 200 with the name, or 400."""
        if len(frames) < _ZAP_FRAMES:
            logger.error("ZeroMQ asked in an unknown form: %d frames", len(frames))
            return [*frames[:2], _ZAP_VERSION, b"", b"500", b"", b"", b""]
        route, empty, version, request, _domain, address, _identity, mechanism, *keys = frames
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
        if len(self._strangers) < MAX_PEERS:
            self._strangers.add(address)
        self._complaints.raise_once(
            "refused_key",
            peer=f"{address} with key {shown}",
            reason="its key is not on the allow-list",
        )

    def _take_event(self, frames: list[bytes]) -> None:
        number, descriptor = struct.unpack("=HI", frames[0])
        if number == _ACCEPTED:
            self._greeting[descriptor] = _address_of(descriptor)
        else:
            address = self._greeting.pop(descriptor, None)
            if number == _ENDED and address is not None:
                self._turned_away(address)
        if number in _COUNTED:
            self._count(_COUNTED[number])

    def _turned_away(self, address: str) -> None:
        self._count("turned_away")
        if address not in self._strangers:  # that was said with its key
            self._complaints.raise_once(
                "turned_away",
                peer=address,
                reason="its connection ended before a greeting: it has no key or a wrong one for "
                "this agent, or does not speak its protocol",
            )


def _address_of(descriptor: int) -> str:
    """Who is at the other end of a connection of this process, which may be gone already."""
    try:
        with socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as connection:
            peer = connection.getpeername()
    except OSError:
        return "of unknown address, gone already,"
    return str(peer[0]) if isinstance(peer, tuple) else "of this machine"
