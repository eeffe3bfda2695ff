"""Tells agents that do not let the coordinator in, and when to try them again. Knows no socket.

ZeroMQ gives an address up for good once keys or protocol were refused, and tries it hundreds of
times a second while the other end drops the connection in mid-greeting, as it does if the testbed
file has the wrong key for it. Both become one state here: refused, and tried again after a pause,
so that an agent that was given its right keys comes back by itself.
"""

from __future__ import annotations

from typing import Final

from siftmoe.coordinator.client.liveness import LinkEvent

#: Pause before an agent that refused is tried again: seconds pass while somebody corrects keys.
RETRY_S: Final = 1.0
#: Greetings in a row that broke off before the other end is taken to refuse: a process that is
#: killed while it accepts breaks off one or two.
BROKEN_GREETINGS: Final = 4
#: After a greeting that broke off ZeroMQ tries again within 1 ms; if nothing follows for so long,
#: it has given up.
SILENCE_S: Final = 0.1
#: Who refuses ends a greeting at once. One that lasted longer was ended by this side, since the
#: other said nothing: it is stopped, or cut off.
PROMPT_S: Final = 1.0


class Retries:
    """Which agents are being greeted, and which rest after a refusal until when."""

    def __init__(self) -> None:
        self._greeting: dict[int, float] = {}  # since when
        self._broken: dict[int, int] = {}  # greetings in a row that broke off
        self._silent: dict[int, float] = {}  # when it is given up
        self._resting: dict[int, float] = {}  # when it is tried again

    def observe(self, index: int, event: LinkEvent, *, now_s: float) -> LinkEvent | None:
        """Take note of an event; returns what it amounts to, None for nothing.

        After STRANGE the connection is to be taken down until `due` names the agent.
        """
        if index in self._resting:
            return None  # the last signs of a connection that is taken down
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
        """Agents that ZeroMQ does not try any more; each is STRANGE and rests from now on."""
        found = [index for index, when_s in self._silent.items() if when_s <= now_s]
        for index in found:
            self._rest(index, now_s)
        return found

    def due(self, *, now_s: float) -> list[int]:
        """Agents to try again now; each is named once."""
        ready = [index for index, when_s in self._resting.items() if when_s <= now_s]
        for index in ready:
            del self._resting[index]
        return ready

    def patience_s(self, timeout_s: float, *, now_s: float) -> float:
        """Shorten a wait so that it ends when there is something to do here."""
        first_s = min([*self._resting.values(), *self._silent.values()], default=None)
        return timeout_s if first_s is None else min(timeout_s, max(0.0, first_s - now_s))

    def _rest(self, index: int, now_s: float) -> None:
        self._greeting.pop(index, None)
        self._broken.pop(index, None)
        self._silent.pop(index, None)
        self._resting[index] = now_s + RETRY_S
