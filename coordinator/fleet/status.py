"""State of one agent's process, with its reason and time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from siftmoe.agent.wire.protocol import HelloReply


class AgentState(str, Enum):
    """State of an agent's process, as far as known."""

    #: Not connected yet, or connected without an answer to a hello.
    CONNECTING = "connecting"
    #: Serves the right model.
    READY = "ready"
    #: Its connection is gone and its port does not answer.
    DEAD = "dead"
    #: Its connection is gone or silent, but its port is still open: stopped, or overwhelmed.
    WEDGED = "wedged"
    #: Answers, but serves another model, lacks experts, or speaks another protocol.
    REFUSED = "refused"
    #: Connected, but gave no result to a request; sent a hello again later.
    RESTING = "resting"
    #: Serves the right model on a board that is too hot; used again when that has cooled.
    HOT = "hot"
    #: Gave wrong results; not used any more, whatever becomes of its connection.
    DISTRUSTED = "distrusted"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatus:
    """One agent.

    Parameters
    ----------
    index : int
    name, address : str
    state : AgentState
    reason : str
        Reason of the state, in words.
    since_s : float, s
        Start of the state, on the fleet's clock.
    hello : HelloReply or None
        Its last hello.
    key : str or None
        Public CURVE key that authenticates it.
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
