"""What happens to connections, turned into states of agents. Knows no socket.

A killed process closes its connection at once; a stopped one keeps it, until heartbeats tell. In
both cases ZeroMQ says only that the connection broke. What it says next tells them apart: it tries
to connect again, and either nothing listens any more, or the kernel of a stopped process accepts
without anyone greeting.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from siftmoe.coordinator.fleet import AgentState

if TYPE_CHECKING:
    from siftmoe.coordinator.fleet import Fleet

#: How often a connection is asked for a sign of life. At most 14 small frames a second and
#: agent on a band that carries thousands; twice as often gains nothing a person would notice.
HEARTBEAT_S: Final = 0.1
#: After which silence a connection is given up: three heartbeats, so that one lost to Wi-Fi
#: retransmission (up to about 100 ms) or to a board's scheduler is no death.
HEARTBEAT_TIMEOUT_S: Final = 0.3
#: How long after a break the new attempt to connect may take to tell dead from wedged: the attempt
#: starts after 1 ms and takes one round trip of the network, 1 to 3 ms on a Wi-Fi that works.
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


class Liveness:
    """Keeps a fleet's states as connections come and go.

    Parameters
    ----------
    fleet : Fleet
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._lost_s: dict[int, float] = {}

    @property
    def settled(self) -> bool:
        """Whether of every break the cause is known, or was given up on."""
        return not self._lost_s

    def is_settled(self, index: int) -> bool:
        """Whether of this agent's last break the cause is known, or was given up on."""
        return index not in self._lost_s

    def observe(self, index: int, event: LinkEvent, *, now_s: float) -> bool:
        """Take note of an event; True if the agent is to be asked who it is."""
        lost = self._lost_s.pop(index, None) is not None
        state = self._fleet[index].state
        if event is LinkEvent.GREETED:
            self._set(index, AgentState.CONNECTING, "connected, asked who it is", now_s)
        elif event is LinkEvent.LOST:
            self._lost_s[index] = now_s
            self._set(index, AgentState.DEAD, "its connection broke", now_s)
        elif event is LinkEvent.STRANGE:
            reason = "what listens there speaks another protocol, or does not accept this key"
            self._set(index, AgentState.REFUSED, reason, now_s)
        elif event is LinkEvent.ACCEPTED and lost:
            reason = (
                f"no sign of life for {HEARTBEAT_TIMEOUT_S * 1e3:.0f} ms although its port is "
                f"open: stopped or overwhelmed"
            )
            self._set(index, AgentState.WEDGED, reason, now_s)
        elif event is LinkEvent.ACCEPTED and state is AgentState.CONNECTING:
            self._set(index, state, "its port is open, but it has not greeted", now_s)
        elif event is LinkEvent.FAILED and (lost or state is AgentState.WEDGED):
            reason = "its connection broke and its port is closed: the process is gone"
            self._set(index, AgentState.DEAD, reason, now_s)
        elif event is LinkEvent.FAILED and state is AgentState.CONNECTING:
            self._set(index, state, "nothing listens there yet", now_s)
        return event is LinkEvent.GREETED

    def settle(self, *, now_s: float) -> None:
        """Give up on the causes that did not show in time."""
        for index, since_s in list(self._lost_s.items()):
            if now_s - since_s >= CLASSIFY_S:
                del self._lost_s[index]
                reason = "its connection broke and no new one comes about: host or network is gone"
                self._set(index, AgentState.DEAD, reason, now_s)

    def _set(self, index: int, state: AgentState, reason: str, now_s: float) -> None:
        self._fleet.set_state(index, state, reason=reason, now_s=now_s)
