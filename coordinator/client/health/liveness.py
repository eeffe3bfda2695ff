"""Derives states of agents from the events of their connections. Uses no socket.

A killed process closes its connections at once; that of a stopped process for heartbeats breaks
when they fail. ZeroMQ reports both as a broken connection. The next attempt to connect
distinguishes them: after a kill nothing listens any more, while the kernel of a stopped process
accepts the connection and no handshake follows. A dying process may also accept, between the end of
its connections and that of its port, so an accepted connection counts only if it lasts.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from siftmoe.coordinator.fleet.status import AgentState

if TYPE_CHECKING:
    from siftmoe.coordinator.fleet.agents import Fleet

#: Silence of an agent's heartbeats that counts as a break: more than three heartbeats, so that one
#: heartbeat delayed by Wi-Fi retransmission (up to about 100 ms) or by a board's scheduler does
#: not.
HEARTBEAT_TIMEOUT_MS: Final = 300
#: How long after a break the next attempt to connect may take to tell dead from wedged: it starts
#: after 1 ms and takes one round trip, 1 to 3 ms on a Wi-Fi that works. An accepted connection has
#: to last as long, while the kernel closes what a killed process had open, one after the other.
CLASSIFY_S: Final = 0.005


class LinkEvent(str, Enum):
    """Event of a connection."""

    #: The agent's kernel accepted it.
    ACCEPTED = "accepted"
    #: The agent's process completed the handshake.
    GREETED = "greeted"
    #: The attempt to connect failed.
    FAILED = "failed"
    #: The connection broke.
    LOST = "lost"
    #: The peer speaks another protocol or refuses the handshake.
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
        self._lost_s: dict[int, float] = {}  # time of a break that is not classified yet

    @property
    def settled(self) -> bool:
        """Whether every break has been classified."""
        return not self._lost_s

    def is_settled(self, index: int) -> bool:
        """Whether this agent's last break has been classified."""
        return index not in self._lost_s

    def observe(self, index: int, event: LinkEvent, *, now_s: float) -> bool:
        """Process an event; True if the agent must be sent a hello."""
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
        """Classify breaks that no further event followed in time."""
        for index, since_s in list(self._lost_s.items()):
            if now_s - since_s < CLASSIFY_S:
                continue
            del self._lost_s[index]
            state = self._fleet[index].state
            # Any other state was set meanwhile: a hello that came by the other connection, say.
            if state in (AgentState.DEAD, AgentState.WEDGED):
                self._set(index, state, _SILENT if state is AgentState.WEDGED else _GONE, now_s)

    def _set(self, index: int, state: AgentState, reason: str, now_s: float) -> None:
        passing = state is AgentState.CONNECTING or index in self._lost_s
        self._fleet.set_state(index, state, reason=reason, now_s=now_s, passing=passing)
