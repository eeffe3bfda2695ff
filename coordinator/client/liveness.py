"""What happens to connections, turned into states of agents. Knows no socket.

A killed process closes its connection at once; a stopped one keeps it, until heartbeats tell. In
both cases ZeroMQ says only that the connection broke. What it says next tells them apart: it tries
to connect again, and either nothing listens any more, or the kernel of a stopped process accepts
without anyone greeting. A dying process may do that too, for the moment between the end of its
connections and that of its port, so an accepted connection has to last to count.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from siftmoe.agent.config import HEARTBEAT_TIMEOUT_MS
from siftmoe.coordinator.fleet.status import AgentState

if TYPE_CHECKING:
    from siftmoe.coordinator.fleet.agents import Fleet

#: How long after a break the next attempt to connect may take to tell dead from wedged: it starts
#: after 1 ms and takes one round trip, 1 to 3 ms on a Wi-Fi that works. An accepted connection has
#: to last as long, while the kernel closes what a killed process had open, one after the other.
CLASSIFY_S: Final = 0.005


class LinkEvent(str, Enum):
    """What became of a connection."""

    #: The agent's kernel accepted it.
    ACCEPTED = "accepted"
    #: The agent's process greeted.
    GREETED = "greeted"
    #: It could not be made.
    FAILED = "failed"
    #: It broke.
    LOST = "lost"
    #: The other end greets in another protocol, or refuses who greets.
    STRANGE = "strange"


_SILENT: Final = (
    f"no sign of life for {HEARTBEAT_TIMEOUT_MS} ms although its port is open: stopped or "
    f"overwhelmed"
)
_GONE: Final = "its connection broke and no new one comes about: host or network is gone"


class Liveness:
    """Keeps a fleet's states as connections come and go.

    Parameters
    ----------
    fleet : Fleet
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._lost_s: dict[int, float] = {}  # since when a cause is waited for

    @property
    def settled(self) -> bool:
        """Whether of every break the cause is known, or was given up on."""
        return not self._lost_s

    def is_settled(self, index: int) -> bool:
        """Whether of this agent's last break the cause is known, or was given up on."""
        return index not in self._lost_s

    def observe(self, index: int, event: LinkEvent, *, now_s: float) -> bool:
        """Take note of an event; True if the agent is to be asked who it is."""
        state = self._fleet[index].state
        lost = self._lost_s.pop(index, None) is not None
        if event is LinkEvent.LOST or (event is LinkEvent.ACCEPTED and lost):
            self._lost_s[index] = now_s
        if event is LinkEvent.GREETED:
            self._set(index, AgentState.CONNECTING, "connected, asked who it is", now_s)
        elif event is LinkEvent.LOST:
            self._set(index, AgentState.DEAD, "its connection broke", now_s)
        elif event is LinkEvent.STRANGE:
            reason = (
                "what listens there speaks another protocol, has another key than the testbed file "
                "says, or does not admit this coordinator's"
            )
            self._set(index, AgentState.REFUSED, reason, now_s)
        elif event is LinkEvent.ACCEPTED and lost:
            self._set(index, AgentState.WEDGED, "its connection broke, its port is open", now_s)
        elif event is LinkEvent.ACCEPTED and state is AgentState.CONNECTING:
            self._set(index, state, "its port is open, but it has not greeted", now_s)
        elif event is LinkEvent.FAILED and (lost or state is AgentState.WEDGED):
            reason = "its connection broke and its port is closed: the process is gone"
            self._set(index, AgentState.DEAD, reason, now_s)
        elif event is LinkEvent.FAILED and state is AgentState.CONNECTING:
            self._set(index, state, "nothing listens there yet", now_s)
        return event is LinkEvent.GREETED

    def settle(self, *, now_s: float) -> None:
        """Name the causes of breaks after which no more happened in time."""
        for index, since_s in list(self._lost_s.items()):
            if now_s - since_s < CLASSIFY_S:
                continue
            del self._lost_s[index]
            state = self._fleet[index].state
            self._set(index, state, _SILENT if state is AgentState.WEDGED else _GONE, now_s)

    def _set(self, index: int, state: AgentState, reason: str, now_s: float) -> None:
        passing = state is AgentState.CONNECTING or index in self._lost_s
        self._fleet.set_state(index, state, reason=reason, now_s=now_s, passing=passing)
