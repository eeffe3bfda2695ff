"""Sends hellos and requests for temperatures, and sets agents' states from the replies.

Uses no socket: requests are sent by a function passed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from siftmoe.agent.wire.protocol import Failure, Hello, HelloReply, Stats, StatsReply
from siftmoe.coordinator.client.health.rest import Rests
from siftmoe.coordinator.fleet.status import AgentState

if TYPE_CHECKING:
    from collections.abc import Callable

    from siftmoe.agent.errors import ProtocolError
    from siftmoe.agent.wire.protocol import Message, Request
    from siftmoe.coordinator.client.health.heat import Heats
    from siftmoe.coordinator.fleet.agents import Fleet


class AgentChecks:
    """Checks of every agent: identity, temperature, and back-off after failures.

    Parameters
    ----------
    fleet : Fleet
        Its states are kept up to date.
    heats : Heats or None
        Excludes agents whose boards are hot; None uses them, too.
    send : callable
        Sends a message to an agent; returns the reason if that cannot be done, else empty.
    next_id : callable
        Returns an id for a request.
    clock : callable
        Seconds.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        heats: Heats | None,
        send: Callable[[int, Request], str],
        next_id: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._fleet, self._heats = fleet, heats
        self._send, self._next_id, self._clock = send, next_id, clock
        self._rests = Rests()
        self._hellos: dict[int, int] = {}  # helper -> id

    def may_ask(self, index: int) -> bool:
        """Whether an agent may be sent requests.

        A hot agent may: new plans exclude it, but a plan made before it reported heat is still
        carried out, more slowly and without a fault.
        """
        return self._fleet[index].state in (AgentState.READY, AgentState.HOT)

    def greet(self, index: int) -> None:
        """Send an agent a hello; it is used once it has answered."""
        self._hellos.pop(index, None)
        hello = Hello(id=self._next_id())
        if not self._send(index, hello):
            self._hellos[index] = hello.id

    def gone(self, index: int) -> None:
        """Forget the requests to an agent whose connection was replaced or lost."""
        self._rests.end(index)
        if self._heats is not None:
            self._heats.end(index)

    def rest(self, index: int, *, reason: str, owes: int | None) -> None:
        """Exclude an agent that gave no result; ``owes`` is the id of its unanswered request."""
        if self.may_ask(index):
            self._set(index, AgentState.RESTING, reason)
            self._rests.begin(index, now_s=self._clock(), owes=owes)

    def served(self, index: int) -> None:
        """Record a result in time."""
        self._rests.served(index)

    def patience_s(self, timeout_s: float) -> float:
        """Shorten a timeout so that it ends when the next check is due."""
        now_s = self._clock()
        timeout_s = self._rests.patience_s(timeout_s, now_s=now_s)
        if self._heats is None:
            return timeout_s
        return self._heats.patience_s(timeout_s, now_s=now_s)

    def ask(self) -> None:
        """Send the checks that are due."""
        now_s = self._clock()
        for index in self._rests.due(now_s=now_s):
            if self._fleet[index].state is AgentState.RESTING:
                self.greet(index)
                self._rests.begin(index, now_s=now_s)  # the reply to a hello may be lost, too
        if self._heats is None:
            return
        for index in self._heats.due(now_s=now_s):
            if self.may_ask(index):
                stats = Stats(id=self._next_id())
                if not self._send(index, stats):
                    self._heats.ask(index, stats.id)

    def take(self, index: int, message: Message) -> bool:
        """Process a message that is no reply to a request of the run; False if it is unexpected."""
        if self._hellos.get(index) == message.id:
            self._take_hello(index, message)
        elif self._heats is not None and self._heats.is_answer(index, message.id):
            if isinstance(message, StatsReply):
                self._take_warmth(self._heats, index, message)
        else:
            self._rests.answered(message.id, now_s=self._clock())
            return False
        return True

    def take_garbage(self, index: int, error: ProtocolError) -> None:
        """End the wait for a hello whose reply cannot be decoded."""
        if self._hellos.pop(index, None) is not None:
            self._set(index, AgentState.REFUSED, f"answers in no known way: {error}")

    def _take_hello(self, index: int, message: Message) -> None:
        del self._hellos[index]
        if not isinstance(message, HelloReply):
            said = message.message if isinstance(message, Failure) else type(message).__name__
            self._set(index, AgentState.REFUSED, f"did not say who it is: {said}")
        elif self._fleet.welcome(index, message, now_s=self._clock()) and self._heats is not None:
            self._heats.begin(index, now_s=self._clock())

    def _take_warmth(self, heats: Heats, index: int, stats: StatsReply) -> None:
        """Exclude an agent that has become hot; send a hello to one that has cooled."""
        state = self._fleet[index].state
        if state is AgentState.READY and (reason := heats.why_leave(stats)):
            self._set(index, AgentState.HOT, reason)
        elif state is AgentState.HOT and heats.may_return(stats):
            self.greet(index)

    def _set(self, index: int, state: AgentState, reason: str) -> None:
        self._fleet.set_state(index, state, reason=reason, now_s=self._clock())
