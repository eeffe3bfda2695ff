"""Connections to all agents of a fleet: dialled, monitored, redialled after a break or refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import zmq

from siftmoe.agent.wire.protocol import encode
from siftmoe.coordinator.client.health.liveness import (
    CLASSIFY_S,
    HEARTBEAT_TIMEOUT_MS,
    LinkEvent,
    Liveness,
)
from siftmoe.coordinator.client.health.retry import Retries
from siftmoe.coordinator.client.lookup import LOOK_S, Lookups
from siftmoe.coordinator.client.pulse import Pulse
from siftmoe.coordinator.client.security import ClientSecurity
from siftmoe.coordinator.client.sockets import (
    Monitor,
    by_endpoint,
    dial,
    hang_up,
    open_router,
    receive,
    send,
)
from siftmoe.coordinator.fleet.status import AgentState

if TYPE_CHECKING:
    from collections.abc import Callable

    from siftmoe.agent.wire.protocol import Frame, Request
    from siftmoe.coordinator.fleet.agents import Fleet


class Connections:
    """One ROUTER connected to every agent, the monitor of its connections, and the heartbeats.

    Parameters
    ----------
    fleet : Fleet
        Its states are kept up to date.
    security : ClientSecurity or None
        Authenticates the coordinator to agents that have a key.
    greeted, gone : callable
        Called with a helper's index when its process completed the handshake, and when its
        connection was replaced or lost.
    clock : callable
        Seconds.

    Raises
    ------
    ConfigError
        As `siftmoe.coordinator.client.requests.Client`.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        security: ClientSecurity | None,
        greeted: Callable[[int], None],
        gone: Callable[[int], None],
        clock: Callable[[], float],
    ) -> None:
        #: Helpers whose connection broke since the set was last cleared.
        self.broken: set[int] = set()
        self._connected: set[int] = set()
        self._fleet, self._clock = fleet, clock
        self._greeted, self._gone = greeted, gone
        self._liveness = Liveness(fleet)
        self._security = security or ClientSecurity()
        self._retries = Retries()
        self._lookups = Lookups({agent.index: agent.address for agent in fleet})
        self._addresses = self._lookups.first()
        self._endpoints = by_endpoint(fleet, self._addresses)
        nameless = {fleet[index].address: index for index in self._lookups.pending()}
        self._security.check(fleet, self._endpoints | nameless)
        self._routes = [f"agent-{index}".encode() for index in range(len(fleet))]
        self._index = {route: index for index, route in enumerate(self._routes)}
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._router = open_router(self._context)
        self._monitor = Monitor(self._context, self._router)
        self._pulse = Pulse(
            self._context,
            self._endpoints,
            security=self._security,
            timeout_ms=HEARTBEAT_TIMEOUT_MS,
        )
        self._sockets = [
            (socket, zmq.POLLIN)
            for socket in (self._router, self._monitor.socket, self._pulse.socket)
        ]
        for index in self._addresses:
            self._dial(index)
        self._report_nameless()

    def close(self) -> None:
        """Close all connections at once; closing twice is fine."""
        if self._context.closed:
            return
        self._lookups.close()
        self._monitor.close()
        self._router.close()
        self._pulse.close()
        self._context.term()

    def send(self, index: int, request: Request) -> str:
        """Send a request without blocking; returns the reason if it cannot be sent, else empty."""
        return send(self._router, self._routes[index], encode(request))

    def receive(self, *, copy: bool) -> tuple[int, list[Frame]] | None:
        """Receive a message: helper and frames; None if none is left."""
        received = receive(self._router, copy=copy)
        if received is None:
            return None
        route, frames = received
        return self._index[route], frames

    def wait(self, timeout_s: float) -> bool:
        """Wait at most ``timeout_s`` for events or messages; True if there may be messages."""
        if not self._liveness.settled:
            timeout_s = min(timeout_s, CLASSIFY_S)
        timeout_s = self._retries.patience_s(timeout_s, now_s=self._clock())
        if self._lookups.pending():
            timeout_s = min(timeout_s, LOOK_S)
        # Rounded down, to keep the deadline: the last millisecond is busy polling.
        ready = [which for which, _ in zmq.zmq_poll(self._sockets, int(timeout_s * 1e3))]
        # Events first: all messages that an agent sent before its end have then arrived.
        if self._monitor.socket in ready:
            self._take_events()
        if self._pulse.socket in ready:
            self._take_heartbeats()
        return bool(ready)

    def attend(self) -> None:
        """Classify breaks whose waiting time is over, and redial agents whose pause is over."""
        if not self._liveness.settled:
            self._liveness.settle(now_s=self._clock())
        now_s = self._clock()
        for index in self._retries.given_up(now_s=now_s):
            self._part_with(index, now_s)
        for index in self._retries.due(now_s=now_s):
            self._dial(index)
        if self._lookups.pending():
            self._take_names()

    def refuse(self, index: int, *, reason: str) -> None:
        """Close an agent's connection; it is dialled again after a pause."""
        self._retries.refuse(index, now_s=self._clock())
        self._part_with(index, self._clock())
        self._gone(index)
        self.broken.add(index)
        self._connected.discard(index)
        self._fleet.set_state(index, AgentState.REFUSED, reason=reason, now_s=self._clock())

    def is_settled(self, index: int) -> bool:
        """Whether this agent's last break has been classified."""
        return self._liveness.is_settled(index)

    def _dial(self, index: int) -> None:
        dial(
            self._router,
            self._addresses[index],
            route=self._routes[index],
            security=self._security,
            server_key=self._fleet[index].key,
        )

    def _take_names(self) -> None:
        """Dial agents whose names have an address now."""
        for index, endpoint in self._lookups.take().items():
            self._addresses[index] = endpoint
            self._endpoints = by_endpoint(self._fleet, self._addresses)
            self._pulse.learn(index, endpoint)
            self._dial(index)
        self._report_nameless()

    def _report_nameless(self) -> None:
        for index, reason in self._lookups.pending().items():
            self._fleet.set_state(index, AgentState.DEAD, reason=reason, now_s=self._clock())

    def _part_with(self, index: int, now_s: float) -> None:
        hang_up(self._router, self._addresses[index])
        self._pulse.end(index)
        self._liveness.observe(index, LinkEvent.STRANGE, now_s=now_s)

    def _take_events(self) -> None:
        for endpoint, event in self._monitor.events():
            index = self._endpoints[endpoint]
            if event is LinkEvent.LOST:
                self.broken.add(index)
                self._connected.discard(index)
            amounts_to = self._retries.observe(index, event, now_s=self._clock())
            if amounts_to is None:
                continue
            if amounts_to in (LinkEvent.GREETED, LinkEvent.LOST, LinkEvent.STRANGE):
                self._gone(index)
            known = self._pulse.is_lost(index) and self._liveness.is_settled(index)
            if amounts_to is LinkEvent.LOST and known and self._is_dead(index):
                continue  # the heartbeats' connection told it before
            if amounts_to is LinkEvent.STRANGE:
                self._part_with(index, self._clock())
            elif self._liveness.observe(index, amounts_to, now_s=self._clock()):
                self._connected.add(index)
                self._pulse.begin(index, server_key=self._fleet[index].key)
                self._greeted(index)

    def _is_dead(self, index: int) -> bool:
        return self._fleet[index].state is AgentState.DEAD

    def _take_heartbeats(self) -> None:
        """Treat an agent without heartbeats as lost; its request connection may still be open."""
        for index, event in self._pulse.events():
            if index not in self._connected:
                continue  # the events of its request connection tell more
            if event is LinkEvent.LOST:
                self.broken.add(index)
            if event in (LinkEvent.GREETED, LinkEvent.LOST):
                self._gone(index)
            if self._liveness.observe(index, event, now_s=self._clock()):
                self._greeted(index)
