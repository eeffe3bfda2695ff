"""Sends requests to agents and collects their replies within a deadline, whichever agents fail.

One synchronous ROUTER connects to every agent: it costs the same for 8 agents as for 100. The only
other thread is ZeroMQ's. Events and messages are processed at each use, or by `Client.poll`.
"""

from __future__ import annotations

import itertools
import logging
import time
from typing import TYPE_CHECKING, Final

from siftmoe.agent.errors import ProtocolError
from siftmoe.agent.wire.protocol import Apply, Failure, Result, decode
from siftmoe.agent.wire.short import ID_MASK
from siftmoe.coordinator.client.connections import Connections
from siftmoe.coordinator.client.exchange import Exchange, garbled, missed, refused, unreachable
from siftmoe.coordinator.client.health.checks import AgentChecks
from siftmoe.coordinator.client.health.floods import FLOODS, Floods
from siftmoe.coordinator.client.sockets import ZERO_COPY_BYTES
from siftmoe.coordinator.errors import AgentUnreachable
from siftmoe.coordinator.fleet.status import AgentState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from siftmoe.agent.wire.protocol import Frame, Message, Request
    from siftmoe.coordinator.client.health.heat import Heats
    from siftmoe.coordinator.client.security import ClientSecurity
    from siftmoe.coordinator.errors import CoordinatorError
    from siftmoe.coordinator.fleet.agents import Fleet
    from siftmoe.coordinator.fleet.status import AgentStatus

_log = logging.getLogger(__name__)

#: Messages processed between two readings of the clock, so that a flood cannot delay a deadline.
_DRAIN: Final = 256


class _Model:
    """What answers with short headers are read by."""

    def __init__(self, hidden_size: int) -> None:
        self.hidden_size = hidden_size

    def experts_of(self, layer: int) -> tuple[int, ...]:
        """No expert is hosted here: a request is none for a coordinator."""
        del layer
        return ()


class Client:
    """Connections to all agents of a fleet, open from the start; used by one thread at a time.

    Parameters
    ----------
    fleet : Fleet
    security : ClientSecurity or None
        Authenticates the coordinator to agents that have a key.
    heats : Heats or None
        Excludes agents whose boards are hot.
    clock : callable
        Seconds of real time.

    Raises
    ------
    ConfigError
        If a host's name has no address, two agents turn out to have the same one, or one beyond
        this machine has no key.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        security: ClientSecurity | None = None,
        heats: Heats | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fleet = fleet
        self.discarded = 0  # messages: late replies and unasked ones
        self._clock = clock
        self._checks = AgentChecks(
            fleet,
            heats=heats,
            send=lambda index, request: self._connections.send(index, request),
            next_id=self.next_id,
            clock=clock,
        )
        self._known = _Model(fleet.shape.hidden_size)
        self._ids = itertools.count(1)
        self._last_id = 0
        self._round = Exchange()
        self._pending: dict[int, int] = {}  # id -> helper
        self._sent_s: dict[int, float] = {}  # helper -> time
        self._asked: dict[int, int] = {}  # helper -> id of its last request without an answer
        self._copy, self._floods = True, Floods()
        self._connections = Connections(
            fleet,
            security=security,
            greeted=self._checks.greet,
            gone=self._checks.gone,
            clock=clock,
        )

    def close(self) -> None:
        """Close all connections at once; closing twice is fine."""
        self._connections.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def next_id(self) -> int:
        """Identity for a request; every request needs a new one."""
        return next(self._ids)

    def wait_ready(self, *, timeout_s: float) -> bool:
        """Wait until every agent is ready, hot or refused, and return whether all are ready."""
        closed = (AgentState.READY, AgentState.HOT, AgentState.REFUSED, AgentState.DISTRUSTED)
        self._wait(lambda: all(agent.state in closed for agent in self.fleet), timeout_s)
        return bool(self.fleet.ready().all())

    def wait_somebody(self, *, timeout_s: float) -> bool:
        """Wait until at least one agent is ready, and return whether one is."""
        return self._wait(lambda: bool(self.fleet.ready().any()), timeout_s)

    def _wait(self, reached: Callable[[], bool], timeout_s: float) -> bool:
        end_s = self._clock() + timeout_s
        self.poll()
        while not reached():
            remaining_s = end_s - self._clock()
            if remaining_s <= 0.0:
                return False
            self._take_in(remaining_s)
        return True

    def connect(self, *, timeout_s: float, require_all: bool = True) -> tuple[AgentStatus, ...]:
        """Wait until every agent is ready; without ``require_all`` one ready agent is enough then.

        A hot agent counts as connected; it is used when it has cooled.

        Returns
        -------
        tuple of AgentStatus
            Agents that are not ready; each is logged, and used once it is.

        Raises
        ------
        AgentUnreachable
            If agents are not ready in time; the message names each with its reason.
        """
        if self.wait_ready(timeout_s=timeout_s):
            return ()
        missing = tuple(a for a in self.fleet if not self._checks.may_ask(a.index))
        if missing and (require_all or not self.fleet.ready().any()):
            reasons = "; ".join(map(str, missing))
            raise AgentUnreachable(f"not ready after {timeout_s:g} s: {reasons}")
        for agent in missing:
            _log.warning("going on without it, until it is ready: %s", agent)
        return missing

    def poll(self) -> None:
        """Process events and messages since the client was last used, without waiting."""
        self._take_in(0.0)

    def exchange(
        self,
        requests: Mapping[int, Request] | Mapping[str, Request],
        *,
        deadline_s: float,
        meanwhile: Callable[[], None] | None = None,
    ) -> Exchange:
        """Send requests and collect the replies.

        Parameters
        ----------
        requests : mapping
            One request per helper, by index or name, each with an id from `next_id`. Arrays of
            64 KB and more are not copied and must not change any more.
        deadline_s : float, s
            Time limit from now. The wait for a helper that dies ends at once, that for the others
            goes on.
        meanwhile : callable or None
            Called when all requests are sent, to compute in parallel to the agents.

        Returns
        -------
        Exchange
            For each helper a reply or its error: AgentUnreachable, DeadlineMissed or AgentRefused.

        Raises
        ------
        ValueError
            If the deadline is not positive, an id was used before, or no agent has that name.
        """
        if not deadline_s > 0.0:
            raise ValueError(f"deadline_s must be positive, got {deadline_s}")
        self.poll()
        self._round = Exchange()
        for kept in (self._pending, self._sent_s, self._connections.broken):
            kept.clear()
        end_s = self._clock() + deadline_s
        self._send_all(requests)
        if meanwhile is not None:
            meanwhile()
        self._collect(end_s)
        for index in self._pending.values():
            self._fail(index, missed(self.fleet[index], deadline_s))
        self._pending.clear()
        return self._round

    def rest(self, index: int, *, reason: str) -> None:
        """Exclude a connected agent that gave no result, until it answers a hello again."""
        self._checks.rest(index, reason=reason, owes=self._asked.get(index))

    def distrust(self, index: int, *, reason: str) -> None:
        """Exclude an agent for as long as this client is open: its results are wrong."""
        self.fleet.set_state(index, AgentState.DISTRUSTED, reason=reason, now_s=self._clock())

    def _fail(self, index: int, error: CoordinatorError) -> None:
        self._round.failures[index] = error
        sent_s = self._sent_s.get(index)
        self._round.given_up_s[index] = 0.0 if sent_s is None else self._clock() - sent_s

    def _send_all(self, requests: Mapping[int, Request] | Mapping[str, Request]) -> None:
        largest, used_id = 0, self._last_id
        for key, request in requests.items():
            index = self.fleet.index(key) if isinstance(key, str) else key
            if request.id <= used_id or request.id in self._pending:
                raise ValueError(f"request id {request.id} was used before; take ids of next_id()")
            self._last_id = max(self._last_id, request.id)
            if isinstance(request, Apply):
                largest = max(largest, request.answer_bytes)
            if not self._checks.may_ask(index):
                self._fail(index, unreachable(self.fleet[index]))
                continue
            self._sent_s[index] = self._clock()
            problem = self._connections.send(index, request)
            if problem:
                self._fail(index, unreachable(self.fleet[index], problem))
            else:
                self._pending[request.id] = index
                self._round.sent.add(index)
                self._asked[index] = request.id
        self._copy = largest < ZERO_COPY_BYTES

    def _collect(self, end_s: float) -> None:
        while self._pending:
            remaining_s = end_s - self._clock()
            self._take_in(max(0.0, remaining_s))
            if self._connections.broken:
                self._give_up_broken()
            if remaining_s <= 0.0:
                return

    def _take_in(self, timeout_s: float) -> None:
        """Wait at most ``timeout_s`` for events or messages, and process them."""
        if self._connections.wait(self._checks.patience_s(timeout_s)):
            self._take_messages()
        self._connections.attend()
        self._checks.ask()

    def _take_messages(self) -> None:
        waited_for = bool(self._pending)
        for _ in range(_DRAIN):
            received = self._connections.receive(copy=self._copy)
            if received is None:
                return
            self._handle(*received)
            if waited_for and not self._pending:
                return  # further messages can wait

    def _handle(self, index: int, frames: list[Frame]) -> None:
        try:
            message = decode(frames, self._known)
        except ProtocolError as error:
            self._take_garbage(index, error)
            return
        request_id = self._whole_id(index, message)
        if self._pending.get(request_id) == index:
            self._take_reply(index, request_id, message)
        elif not self._checks.take(index, message):
            self._take_unasked(index)

    def _take_unasked(self, index: int) -> None:
        self.discarded += 1
        if self._floods.unasked(index):
            self._connections.refuse(index, reason=FLOODS)

    def _whole_id(self, index: int, message: Message) -> int:
        """Id of a reply; that to a short header has the lowest bits of its request's."""
        asked = self._asked.get(index)
        if asked is None or not isinstance(message, Result | Failure):
            return message.id
        return asked if message.id == asked & ID_MASK else message.id

    def _take_reply(self, index: int, request_id: int, message: Message) -> None:
        del self._pending[request_id], self._asked[index]
        self._floods.asked(index)
        if isinstance(message, Failure):
            self._fail(index, refused(self.fleet[index], message))
            return
        self._checks.served(index)
        self._round.replies[index] = message
        self._round.round_trip_s[index] = self._clock() - self._sent_s[index]

    def _take_garbage(self, index: int, error: ProtocolError) -> None:
        """Count an undecodable message; its sender's pending request or hello has failed."""
        self._checks.take_garbage(index, error)
        for request_id, helper in list(self._pending.items()):
            if helper == index:
                del self._pending[request_id], self._asked[index]
                self._fail(index, garbled(self.fleet[index], error))
        self._take_unasked(index)

    def _give_up_broken(self) -> None:
        """End the wait for agents whose connection broke, once the break is classified."""
        for request_id, index in list(self._pending.items()):
            if index in self._connections.broken and self._connections.is_settled(index):
                del self._pending[request_id]
                lost = "it had been given a request, which is lost"
                self._fail(index, unreachable(self.fleet[index], lost))
