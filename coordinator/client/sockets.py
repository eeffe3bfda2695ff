"""The coordinator's sockets: one ROUTER to all agents, and the monitor of its connections."""

from __future__ import annotations

import errno
import itertools
import socket
import struct
from typing import TYPE_CHECKING, Final

import zmq

from siftmoe.agent.wire.protocol import MAX_FRAME_BYTES
from siftmoe.coordinator.client.health.liveness import LinkEvent
from siftmoe.coordinator.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from siftmoe.agent.wire.protocol import Frame
    from siftmoe.coordinator.client.security import ClientSecurity
    from siftmoe.coordinator.fleet.agents import Fleet

#: Below this size a copy is cheaper than ZeroMQ's notice of freed memory (11 µs, measured).
ZERO_COPY_BYTES: Final = 64 * 1024
#: Most messages that may be queued for one agent. One request is outstanding at a time; more are
#: queued only if a connected agent missed deadlines, and the queue must be bounded.
SEND_LIMIT: Final = 32
#: First pause before a broken connection is dialled again: short, because the outcome distinguishes
#: a dead agent from a wedged one. It doubles with each failure...
RECONNECT_MS: Final = 1
#: ...up to this: an agent that restarts is back within a quarter of a second, and a dead one costs
#: four attempts a second.
RECONNECT_MAX_MS: Final = 250

#: Time limit of an attempt to connect. The kernel alone would retry after 1, 3, 7, 15, … s: after
#: an outage of minutes it would wait for minutes more.
CONNECT_MS: Final = 1_000

#: Time without an acknowledgement by the agent's host after which a connection is replaced.
UNACKNOWLEDGED_MS: Final = 1_000

#: Plain numbers: combining ZeroMQ's own flags costs 1 µs each time, as much as sending a frame.
POLLIN: Final = int(zmq.POLLIN)
_LAST: Final = int(zmq.NOBLOCK)
_MORE: Final = int(zmq.NOBLOCK | zmq.SNDMORE)

_MONITOR_NUMBERS = itertools.count()

#: Without EVENT_HANDSHAKE_FAILED_PROTOCOL, as `siftmoe.agent.security.authenticator` explains.
_EVENTS: Final[dict[int, LinkEvent]] = {
    zmq.EVENT_CONNECTED: LinkEvent.ACCEPTED,
    zmq.EVENT_HANDSHAKE_SUCCEEDED: LinkEvent.GREETED,
    zmq.EVENT_CLOSED: LinkEvent.FAILED,
    zmq.EVENT_DISCONNECTED: LinkEvent.LOST,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: LinkEvent.STRANGE,
}


class Monitor:
    """Events of a socket's connections.

    Parameters
    ----------
    context : zmq.Context
    watched : zmq.Socket
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], watched: zmq.Socket[bytes]) -> None:
        address = f"inproc://siftmoe-monitor-{next(_MONITOR_NUMBERS)}"
        mask = 0
        for event in _EVENTS:
            mask |= event
        watched.monitor(address, mask)
        self._watched = watched
        self.socket = context.socket(zmq.PAIR)
        # Unlimited: a full queue would block ZeroMQ's I/O thread and with it all connections.
        self.socket.rcvhwm = 0
        self.socket.linger = 0
        self.socket.connect(address)

    def events(self) -> Iterator[tuple[str, LinkEvent]]:
        """Receive pending events: (endpoint, event)."""
        while int(self.socket.getsockopt(zmq.EVENTS)) & POLLIN:
            head, endpoint = self.socket.recv_multipart(zmq.NOBLOCK)
            number, _value = struct.unpack("=HI", head)
            yield endpoint.decode(), _EVENTS[number]

    def close(self) -> None:
        """Stop watching."""
        self._watched.disable_monitor()
        self.socket.close()


def open_router(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """Open a ROUTER that never drops a message silently; its heartbeats are in `pulse`."""
    router = context.socket(zmq.ROUTER)
    router.linger = 0  # unsent messages are useless after the run
    router.sndhwm = SEND_LIMIT
    # Without a limit. libzmq 4.3.5 aborts the process when a connection whose full pipe had stopped
    # it is replaced by another one before the pipe is read (libzmq issue 3937, pull request 4830),
    # which an agent that floods, goes and comes back can bring about. `health.floods` ends a flood.
    router.rcvhwm = 0
    router.maxmsgsize = MAX_FRAME_BYTES
    # By default a message for a full or missing pipe is dropped; now sending raises an error.
    router.router_mandatory = True
    # After a cut link TCP's own pauses grow to minutes. A connection on which nothing was
    # acknowledged for so long is replaced by a new one.
    router.tcp_maxrt = UNACKNOWLEDGED_MS
    router.reconnect_ivl = RECONNECT_MS
    router.reconnect_ivl_max = RECONNECT_MAX_MS
    router.connect_timeout = CONNECT_MS
    return router


def dial(
    router: zmq.Socket[bytes],
    endpoint: str,
    *,
    route: bytes,
    security: ClientSecurity,
    server_key: str | None,
) -> None:
    """Start to connect to an agent, whose messages then have this routing id."""
    router.ipv6 = "[" in endpoint
    router.connect_routing_id = route
    security.prepare(router, server_key)
    router.connect(endpoint)


def hang_up(router: zmq.Socket[bytes], endpoint: str) -> None:
    """Close a connection, also one that ZeroMQ has abandoned."""
    try:
        router.disconnect(endpoint)
    except zmq.ZMQError as error:
        if error.errno != errno.ENOENT:
            raise


def resolve(address: str) -> str:
    """Return an address with a numeric host, as ZeroMQ's events report it.

    Raises
    ------
    ConfigError
        If the host has no address.
    """
    transport, _, rest = address.partition("://")
    if transport != "tcp":
        return address
    host, _, port = rest.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConfigError(
            f"address {address!r}: the host cannot be looked up ({error}); check the name, or "
            f"write its number"
        ) from error
    # Agents listen on IPv4 by default, so it is preferred: "localhost" has both.
    family, *_, where = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    number = where[0] if family == socket.AF_INET else f"[{where[0]}]"
    return f"tcp://{number}:{port}"


def by_endpoint(fleet: Fleet, found: Mapping[int, str]) -> dict[str, int]:
    """Return the helper of each endpoint.

    Raises
    ------
    ConfigError
        If two agents have the same one.
    """
    endpoints: dict[str, int] = {}
    for index, endpoint in found.items():
        other = endpoints.setdefault(endpoint, index)
        if other != index:
            raise ConfigError(
                f"agents {fleet[other].name!r} and {fleet[index].name!r} have the same address "
                f"{endpoint}; each agent needs its own"
            )
    return endpoints


def send(router: zmq.Socket[bytes], route: bytes, frames: Sequence[Frame]) -> str:
    """Send without blocking; returns the reason if the agent's pipe refuses it, else empty.

    A frame of ``ZERO_COPY_BYTES`` or more is not copied and must not be changed afterwards.
    """
    try:
        router.send(route, _MORE)
    except zmq.Again:
        return f"{SEND_LIMIT} messages wait for it unread"
    except zmq.ZMQError as error:
        if error.errno == errno.EHOSTUNREACH:
            return "there is no connection to it"
        raise
    # Once the routing id was accepted, the rest of the message follows.
    for frame in frames[:-1]:
        router.send(frame, _MORE, copy=len(frame) < ZERO_COPY_BYTES)
    router.send(frames[-1], _LAST, copy=len(frames[-1]) < ZERO_COPY_BYTES)
    return ""


def receive(router: zmq.Socket[bytes], *, copy: bool) -> tuple[bytes, list[Frame]] | None:
    """Receive a message: routing id and frames; None if none is left.

    Without ``copy`` large frames are views. A poll beforehand would cost a system call; to receive
    a message that has arrived costs none.
    """
    try:
        route = router.recv(_LAST)
    except zmq.Again:
        return None
    frames: list[Frame] = [router.recv(_LAST)]  # the header, always small
    while router.getsockopt(zmq.RCVMORE):
        if copy:
            frames.append(router.recv(_LAST))
        else:
            frames.append(router.recv(_LAST, copy=False).buffer)
    return route, frames
