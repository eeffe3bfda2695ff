"""Heartbeats of agents, on a connection of their own that carries nothing else.

libzmq 4.3.5 aborts the process when a heartbeat is due on a connection that the peer has closed
while its queue of received messages is full. On the connection of requests any agent could cause
that: it sends more messages than the receive limit and goes while the coordinator computes. So that
connection has no heartbeats, and this one has no queue: ``ZMQ_CONFLATE`` keeps one message, which
nobody reads, and larger messages are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import zmq

from siftmoe.coordinator.client.health.liveness import LinkEvent
from siftmoe.coordinator.client.sockets import (
    CONNECT_MS,
    RECONNECT_MAX_MS,
    RECONNECT_MS,
    Monitor,
    hang_up,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from siftmoe.coordinator.client.security import ClientSecurity

#: Interval between heartbeats: silence is noticed at most 80 + 300 ms after it begins. They cost
#: two dozen small frames per second and agent, on a band that carries thousands.
HEARTBEAT_MS: Final = 80
#: Largest message, well above a heartbeat and a handshake; an agent has no reason to send one.
_MAX_BYTES: Final = 4_096


class Pulse:
    """One DEALER with heartbeats, connected to the agents whose request connection is open.

    Parameters
    ----------
    context : zmq.Context
    endpoints : dict
        Helper by endpoint.
    security : ClientSecurity
        Authenticates the coordinator.
    timeout_ms : int, ms
        Silence after which an agent counts as lost.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoints: dict[str, int],
        *,
        security: ClientSecurity,
        timeout_ms: int,
    ) -> None:
        self._endpoints, self._security = dict(endpoints), security
        self._addresses = {index: endpoint for endpoint, index in endpoints.items()}
        self._dealer = _open_dealer(context, timeout_ms)
        self._monitor = Monitor(context, self._dealer)
        self._dialled: set[int] = set()
        self._beating: set[int] = set()
        self._lost: set[int] = set()

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """Readable while there are events."""
        return self._monitor.socket

    def close(self) -> None:
        """Close all connections."""
        self._monitor.close()
        self._dealer.close()

    def learn(self, index: int, endpoint: str) -> None:
        """Take the endpoint of an agent whose name was resolved later than the others."""
        self._endpoints[endpoint] = index
        self._addresses[index] = endpoint

    def begin(self, index: int, *, server_key: str | None) -> None:
        """Connect to an agent that has just completed the handshake of its request connection."""
        self._lost.discard(index)
        if index in self._dialled:
            return  # ZeroMQ connects again by itself
        self._dialled.add(index)
        address = self._addresses[index]
        self._dealer.ipv6 = "[" in address
        self._security.prepare(self._dealer, server_key)
        self._dealer.connect(address)

    def end(self, index: int) -> None:
        """Disconnect from an agent that is not dialled any more."""
        if index in self._dialled:
            self._dialled.remove(index)
            hang_up(self._dealer, self._addresses[index])
        self._beating.discard(index)
        self._lost.discard(index)

    def is_lost(self, index: int) -> bool:
        """Whether the heartbeats of an agent have ended and not begun again."""
        return index in self._lost

    def events(self) -> Iterator[tuple[int, LinkEvent]]:
        """Yield what the heartbeats say of agents: LOST, then what follows up to GREETED."""
        for endpoint, event in self._monitor.events():
            index = self._endpoints[endpoint]
            if index not in self._dialled:
                continue
            if event is LinkEvent.LOST and index in self._beating:
                self._beating.remove(index)
                self._lost.add(index)
                yield index, event
            elif event is LinkEvent.GREETED:
                self._beating.add(index)
                if index in self._lost:
                    self._lost.remove(index)
                    yield index, event
            elif event in (LinkEvent.ACCEPTED, LinkEvent.FAILED) and index in self._lost:
                yield index, event


def _open_dealer(context: zmq.Context[zmq.Socket[bytes]], timeout_ms: int) -> zmq.Socket[bytes]:
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    dealer.setsockopt(zmq.CONFLATE, 1)
    dealer.maxmsgsize = _MAX_BYTES
    dealer.heartbeat_ivl = HEARTBEAT_MS
    dealer.heartbeat_timeout = timeout_ms
    dealer.reconnect_ivl = RECONNECT_MS
    dealer.reconnect_ivl_max = RECONNECT_MAX_MS
    dealer.connect_timeout = CONNECT_MS
    return dealer
