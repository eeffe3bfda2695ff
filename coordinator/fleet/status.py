"""State of one agent: what is known of its process, since when, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from siftmoe.agent.wire.protocol import HelloReply


class AgentState(str, Enum):
    """What is known of an agent's process."""

    #: Not connected yet, or connected and not yet asked who it is.
    CONNECTING = "connecting"
    #: Serves the right model.
    READY = "ready"
    #: Its connection is gone and its port does not answer.
    DEAD = "dead"
    #: Its connection is gone or silent, but its port is still open: stopped, or overwhelmed.
    WEDGED = "wedged"
    #: Answers, but is not what it must be.
    REFUSED = "refused"
    #: Is connected, but gave no result when it was asked for one; it is asked again later.
    RESTING = "resting"
    #: Serves the right model on a board that is too warm; it is used again when that has cooled.
    HOT = "hot"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatus:
    """One agent.

    Parameters
    ----------
    index : int
    name, address : str
    state : AgentState
    reason : str
        Why it is in this state, in words.
    since_s : float, s
        When it came into this state, on the fleet's clock.
    hello : HelloReply or None
        What it last said of itself.
    key : str or None
        Public key by which it proves itself.
    """

    index: int
    name: str
    address: str
    state: AgentState
    reason: str
    since_s: float
    hello: HelloReply | None = None
    key: str | None = None

    def __str__(self) -> str:
        return f"agent {self.name!r} ({self.address}) is {self.state.value}: {self.reason}"
