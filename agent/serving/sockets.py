"""The agent's ROUTER socket: its options with their reasons, receiving and sending frames."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Final

import zmq

from siftmoe.agent.errors import AddressInUse, AddressUnusable
from siftmoe.agent.serving.address import check_address
from siftmoe.agent.wire.protocol import MAX_FRAME_BYTES, ZERO_COPY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from siftmoe.agent.security.keys import KeyPair
    from siftmoe.agent.wire.protocol import Frame

#: A received frame below this size is copied, which costs less than a view of it.
_SMALL_BYTES: Final = 4 * 1024

#: Requests of one peer that may wait in the socket; further ones wait at the peer. The agent
#: receives them at once, to queue or to refuse them, so this bounds memory without slowing a client
#: down.
_RECEIVE_LIMIT: Final = 64
#: Replies to one peer that may wait in the socket; more means that the peer does not read.
_SEND_LIMIT: Final = 256
#: Domain of ZAP requests.
ZAP_DOMAIN: Final = b"siftmoe"
#: How long a peer's host may acknowledge nothing before its connection is closed. What such a peer
#: holds until then is bounded: no request of its own, and replies up to the limits above.
PEER_TIMEOUT_S: Final = 30
#: How long a closing socket may try to deliver the last replies.
_LINGER_MS: Final = 200


# As plain numbers: combining pyzmq's enumerations costs more than the calls they are for.
_SOURCE = int(zmq.SRCFD)
_EVENTS, _READABLE = int(zmq.EVENTS), int(zmq.POLLIN)
_NO_WAIT, _MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK) | int(zmq.SNDMORE)


def open_router(
    context: zmq.Context[zmq.Socket[bytes]],
    bind: str,
    *,
    insecure: bool,
    max_frame_bytes: int = MAX_FRAME_BYTES,
    keys: KeyPair | None = None,
) -> zmq.Socket[bytes]:
    """Bind a ROUTER socket that closes dead connections and reports undeliverable replies.

    With keys it is encrypted, and every connection needs the authenticator's admission.

    Raises
    ------
    AddressInUse, AddressUnusable
        If it cannot be bound; the message names the address and what to do.
    """
    check_address(bind, insecure=insecure, encrypted=keys is not None)
    router = context.socket(zmq.ROUTER)
    router.linger = _LINGER_MS
    router.rcvhwm = _RECEIVE_LIMIT
    router.sndhwm = _SEND_LIMIT
    router.ipv6 = "[" in bind
    # A frame beyond the limit closes the connection before its content is received.
    router.maxmsgsize = max_frame_bytes
    # By default a reply to a peer that is gone or does not read is dropped; now it is an error.
    router.router_mandatory = True
    # A new connection with a known routing id replaces the old one: the client has restarted.
    router.router_handover = True
    # No ZMTP heartbeats from this side: libzmq 4.3.5 aborts the process when a heartbeat is due on
    # a connection that the peer has closed while more than `rcvhwm` of its messages wait, which any
    # client could do on purpose. The socket still answers the clients' heartbeats. TCP notices a
    # peer whose host is gone.
    router.heartbeat_ivl = 0
    router.tcp_keepalive = 1
    router.tcp_keepalive_idle = router.tcp_keepalive_intvl = PEER_TIMEOUT_S // 3
    router.tcp_keepalive_cnt = 2
    router.tcp_maxrt = PEER_TIMEOUT_S * 1000
    if keys is not None:
        router.curve_server = True
        router.curve_secretkey = keys.secret.encode()
        router.zap_domain = ZAP_DOMAIN
        # Without an authenticator no peer is admitted; ZeroMQ's default is to admit all.
        router.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    try:
        router.bind(bind)
    except zmq.ZMQError as error:
        router.close(linger=0)
        raise _bind_error(bind, error) from error
    return router


def _bind_error(bind: str, error: zmq.ZMQError) -> AddressInUse | AddressUnusable:
    if error.errno == errno.EADDRINUSE:
        return AddressInUse(
            f"address {bind!r} is in use by another process; stop it or take another "
            f"(tcp://127.0.0.1:* takes any free port)"
        )
    return AddressUnusable(f"address {bind!r} cannot be bound: {error.strerror}")


def endpoint_of(router: zmq.Socket[bytes]) -> str:
    """Return the bound address, with the port that was picked."""
    bound = router.getsockopt(zmq.LAST_ENDPOINT)
    return bound.rstrip(b"\0").decode() if isinstance(bound, bytes) else str(bound)


def descriptor_of(router: zmq.Socket[bytes]) -> int:
    """Return the descriptor that signals changes of state; then ask :func:`has_arrived`."""
    return int(router.getsockopt(zmq.FD))


def has_arrived(router: zmq.Socket[bytes]) -> bool:
    """Whether a message can be received."""
    return bool(int(router.getsockopt(_EVENTS)) & _READABLE)


def remove_path(endpoint: str) -> None:
    """Remove the socket file of an ``ipc://`` address, which ZeroMQ does not remove."""
    transport, _, path = endpoint.partition("://")
    if transport == "ipc":
        Path(path).unlink(missing_ok=True)


def receive(
    router: zmq.Socket[bytes],
    *,
    flags: int = _NO_WAIT,
    on_message: Callable[[int | None], None] | None = None,
) -> list[Frame]:
    """Receive a message that has arrived, or wait with flags 0; large frames are not copied.

    This takes half the time of ``recv_multipart``, which asks the socket for RCVMORE after each
    frame. ``on_message`` is called with the descriptor of the connection that the message came by,
    or None where ZeroMQ does not tell.
    """
    frames: list[Frame] = []
    more = True
    while more:
        frame = router.recv(flags, copy=False)
        frames.append(frame.bytes if len(frame) < _SMALL_BYTES else frame.buffer)
        more = frame.more
    if on_message is not None:
        on_message(_source_of(frame))
    return frames


def _source_of(frame: zmq.Frame) -> int | None:
    """Return the descriptor of the connection that a frame came by; None for some of ZMTP 1."""
    try:
        return int(frame.get(_SOURCE))
    except zmq.ZMQError:
        return None


def send(
    router: zmq.Socket[bytes],
    peer: bytes,
    frames: Sequence[Frame],
    *,
    on_large: Callable[[bytes, zmq.MessageTracker, int], None] | None = None,
) -> bool:
    """Send without waiting; False if the peer is gone or does not read.

    A large last frame is not copied; ``on_large`` is called with the peer, the tracker that tells
    when ZeroMQ has released the frame, and its bytes.
    """
    last = frames[-1]
    try:
        router.send(peer, _MORE)
        for frame in frames[:-1]:
            router.send(frame, _MORE, copy=len(frame) < ZERO_COPY_BYTES)
        if len(last) < ZERO_COPY_BYTES:
            router.send(last, _NO_WAIT)
            return True
        tracker = router.send(last, _NO_WAIT, copy=False, track=on_large is not None)
    except zmq.Again:
        return False
    except zmq.ZMQError as error:
        if error.errno == errno.EHOSTUNREACH:
            return False
        raise
    if on_large is not None and tracker is not None:
        on_large(peer, tracker, len(last))
    return True
