"""Result of a round of requests: a reply or an error per agent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from siftmoe.agent.errors import ErrorCode
from siftmoe.agent.wire.protocol import Failure, Message, error_of
from siftmoe.coordinator.errors import (
    AgentRefused,
    AgentUnreachable,
    CoordinatorError,
    DeadlineMissed,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from siftmoe.agent.errors import ProtocolError
    from siftmoe.coordinator.fleet.status import AgentStatus


@dataclass(frozen=True, slots=True)
class Exchange:
    """Result of one round of requests, by helper.

    Parameters
    ----------
    replies : dict
        Replies by helper's index.
    failures : dict
        Error of each helper without a reply.
    round_trip_s : dict, s
        From sending to receiving the reply.
    given_up_s : dict, s
        From sending to giving up the wait.
    sent : set
        Helpers to which the request went out.
    """

    replies: dict[int, Message] = field(default_factory=dict)
    failures: dict[int, CoordinatorError] = field(default_factory=dict)
    round_trip_s: dict[int, float] = field(default_factory=dict)
    given_up_s: dict[int, float] = field(default_factory=dict)
    sent: set[int] = field(default_factory=set)

    def require(self) -> dict[int, Message]:
        """Return the replies; raise if one is missing."""
        raise_first(self.failures)
        return self.replies


def raise_first(failures: Mapping[int, CoordinatorError]) -> None:
    """Raise the failure of the first helper that has one; its message contains all failures."""
    if not failures:
        return
    first, *others = [failures[index] for index in sorted(failures)]
    if others:
        raise type(first)("; ".join(str(error) for error in (first, *others))) from first
    raise first


def unreachable(agent: AgentStatus, problem: str = "") -> AgentUnreachable:
    """Make the error for an agent that is not ready or cannot be sent messages."""
    return AgentUnreachable(f"{agent}; {problem}" if problem else str(agent))


def missed(agent: AgentStatus, deadline_s: float) -> DeadlineMissed:
    """Make the error for a connected agent that did not answer in time."""
    return DeadlineMissed(
        f"{_who(agent)} gave no answer within {deadline_s * 1e3:g} ms; its connection is alive, so "
        f"it is slow or overloaded: raise the deadline, or send it less"
    )


def refused(agent: AgentStatus, failure: Failure) -> CoordinatorError:
    """Make the error for an agent that replied with an error, which becomes the cause."""
    kind = DeadlineMissed if failure.code is ErrorCode.DEADLINE_EXCEEDED else AgentRefused
    error = kind(f"{_who(agent)} refused ({failure.code.value}): {failure.message}")
    error.__cause__ = error_of(failure)
    return error


def garbled(agent: AgentStatus, error: ProtocolError) -> AgentRefused:
    """Make the error for an agent whose reply cannot be decoded."""
    return AgentRefused(f"{_who(agent)} answered with what is no message: {error}")


def _who(agent: AgentStatus) -> str:
    return f"agent {agent.name!r} ({agent.address})"
