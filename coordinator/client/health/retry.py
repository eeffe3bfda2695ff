"""Detects agents that refuse the handshake, and schedules new attempts. Uses no socket.

ZeroMQ abandons an address for good once keys or protocol were refused, and tries it hundreds of
times a second while the peer drops the connection during the handshake, as it does if the testbed
file has the wrong key for it. Both become one state here: refused, with a new attempt after a
pause, so that an agent whose keys were corrected is connected without a restart.
"""

from __future__ import annotations

from typing import Final

from siftmoe.coordinator.client.health.liveness import LinkEvent

#: Pause before a new attempt after a refusal: to correct keys takes seconds.
RETRY_S: Final = 1.0
#: Consecutive broken handshakes that count as a refusal: a process that is killed while it accepts
#: breaks one or two.
BROKEN_GREETINGS: Final = 4
#: ZeroMQ tries again within 1 ms after a broken handshake; after this time without an event it has
#: abandoned the address.
SILENCE_S: Final = 0.1
#: A refusing peer ends the handshake at once. A handshake that lasted longer was ended by this
#: side, because the peer did not respond: it is stopped or unreachable.
PROMPT_S: Final = 1.0


class Retries:
    """Handshakes in progress, and pauses after refusals."""

    def __init__(self) -> None:
        self._greeting: dict[int, float] = {}  # start of the handshake
        self._broken: dict[int, int] = {}  # consecutive broken handshakes
        self._silent: dict[int, float] = {}  # end of the wait for an event
        self._resting: dict[int, float] = {}  # end of the pause

    def observe(self, index: int, event: LinkEvent, *, now_s: float) -> LinkEvent | None:
        """Process an event; returns the event to act on, or None to ignore it.

        After STRANGE the connection must be closed until `due` returns the agent.
        """
        if index in self._resting:
            return None  # late events of a closed connection
        self._silent.pop(index, None)
        if event is LinkEvent.ACCEPTED:
            self._greeting[index] = now_s
        elif event is LinkEvent.LOST and index in self._greeting:
            if now_s - self._greeting.pop(index) > PROMPT_S:
                return event
            self._broken[index] = self._broken.get(index, 0) + 1
            self._silent[index] = now_s + SILENCE_S
            if self._broken[index] >= BROKEN_GREETINGS:
                event = LinkEvent.STRANGE
        elif event in (LinkEvent.GREETED, LinkEvent.FAILED):
            self._greeting.pop(index, None)
            self._broken.pop(index, None)
        if event is LinkEvent.STRANGE:
            self._rest(index, now_s)
        return event

    def given_up(self, *, now_s: float) -> list[int]:
        """Agents that ZeroMQ has abandoned; each counts as STRANGE, and its pause starts."""
        found = [index for index, when_s in self._silent.items() if when_s <= now_s]
        for index in found:
            self._rest(index, now_s)
        return found

    def refuse(self, index: int, *, now_s: float) -> None:
        """Begin the pause of an agent that this side refuses; its connection must be closed."""
        self._rest(index, now_s)

    def due(self, *, now_s: float) -> list[int]:
        """Agents to dial again; each is returned once."""
        ready = [index for index, when_s in self._resting.items() if when_s <= now_s]
        for index in ready:
            del self._resting[index]
        return ready

    def patience_s(self, timeout_s: float, *, now_s: float) -> float:
        """Shorten a timeout so that it ends with the next pause or wait."""
        first_s = min([*self._resting.values(), *self._silent.values()], default=None)
        return timeout_s if first_s is None else min(timeout_s, max(0.0, first_s - now_s))

    def _rest(self, index: int, now_s: float) -> None:
        self._greeting.pop(index, None)
        self._broken.pop(index, None)
        self._silent.pop(index, None)
        self._resting[index] = now_s + RETRY_S
