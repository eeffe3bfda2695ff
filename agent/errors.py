"""Errors of the agent and their codes on the wire.

::

    AgentError
    ├── ConfigError             a setting of the agent is wrong
    ├── ProviderUnavailable     no execution provider computes the golden output
    ├── AddressInUse            another process listens on the address
    ├── AddressUnusable         the address cannot be bound, or must not be
    ├── KeyUnusable             a key or an allow-list is missing, open to others or malformed
    └── WireError               errors that may cross the wire; each has one ErrorCode
        ├── ProtocolError       protocol            frames that are not a message of this protocol
        │   └── UnknownWidth    width_unknown       rows of a width that this agent does not know
        ├── ShapeMismatch       shape_mismatch      a message that does not fit the model served
        ├── ExpertNotResident   expert_not_resident an expert that this agent does not host
        ├── DeadlineExceeded    deadline_exceeded   the deadline passed before the work began
        ├── AgentBusy           busy                the queue is full; nothing was computed
        ├── AgentStopping       stopping            the agent is stopping; nothing was computed
        ├── OutOfMemory         out_of_memory       the work does not fit into memory
        ├── NotFinite           not_finite          an expert computed NaN or infinity
        ├── NotSupported        not_supported       a message this agent cannot serve
        ├── NoBurst             no_burst            the receiver found no pilot
        ├── Overloaded          overload            the receiver clipped; ask with less gain
        ├── RadioFailed         radio_failed        the agent's radio does not work
        └── InternalFailure     internal            a fault of the agent, not of the request
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar


class ErrorCode(str, Enum):
    """The ``code`` of an ``error`` message."""

    PROTOCOL = "protocol"
    WIDTH_UNKNOWN = "width_unknown"
    SHAPE_MISMATCH = "shape_mismatch"
    EXPERT_NOT_RESIDENT = "expert_not_resident"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    BUSY = "busy"
    STOPPING = "stopping"
    OUT_OF_MEMORY = "out_of_memory"
    NOT_FINITE = "not_finite"
    NOT_SUPPORTED = "not_supported"
    NO_BURST = "no_burst"
    OVERLOAD = "overload"
    RADIO_FAILED = "radio_failed"
    INTERNAL = "internal"

    @classmethod
    def _missing_(cls, value: object) -> ErrorCode:
        """Map the unknown code of a newer agent to ``internal``; its message has the reason."""
        return cls.INTERNAL


class AgentError(Exception):
    """Root of the agent's errors."""


class ConfigError(AgentError):
    """A setting of the agent is wrong."""


class ProviderUnavailable(AgentError):
    """No execution provider computes the bundle's golden output from its golden input."""


class AddressInUse(AgentError):
    """Another process listens on the address."""


class AddressUnusable(AgentError):
    """The address cannot be bound, or must not be bound without encryption."""


class KeyUnusable(AgentError):
    """A key file or an allow-list is missing, open to others or malformed."""


class WireError(AgentError):
    """An error that an agent may send as its answer; the code names the class on the wire."""

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL


class ProtocolError(WireError):
    """Frames that are not a message of this protocol.

    Parameters
    ----------
    message : str
    request_id : int
        The ``id`` of the message if it could be read, so that it can be answered; else 0.
    """

    code = ErrorCode.PROTOCOL

    def __init__(self, message: str, request_id: int = 0) -> None:
        super().__init__(message)
        self.request_id = request_id


class UnknownWidth(ProtocolError):
    """Rows of a width that this agent does not know; ``hello`` lists the known ones."""

    code = ErrorCode.WIDTH_UNKNOWN


class ShapeMismatch(WireError):
    """A well-formed message that does not fit the served model."""

    code = ErrorCode.SHAPE_MISMATCH


class ExpertNotResident(WireError):
    """The request needs an expert that this agent does not host."""

    code = ErrorCode.EXPERT_NOT_RESIDENT


class DeadlineExceeded(WireError):
    """The request's deadline passed before its computation began."""

    code = ErrorCode.DEADLINE_EXCEEDED


class AgentBusy(WireError):
    """The queue is full; nothing was computed."""

    code = ErrorCode.BUSY


class AgentStopping(WireError):
    """The agent is stopping; nothing was computed."""

    code = ErrorCode.STOPPING


class OutOfMemory(WireError):
    """The work does not fit into the agent's memory."""

    code = ErrorCode.OUT_OF_MEMORY


class NotFinite(WireError):
    """An expert computed NaN or infinity from finite hidden vectors."""

    code = ErrorCode.NOT_FINITE


class NotSupported(WireError):
    """A message that this agent understands but cannot serve."""

    code = ErrorCode.NOT_SUPPORTED


class NoBurst(WireError):
    """The receiver found no pilot; there is no channel estimate."""

    code = ErrorCode.NO_BURST


class Overloaded(WireError):
    """The receiver clipped, so its level means nothing; ask again with less gain."""

    code = ErrorCode.OVERLOAD


class RadioFailed(WireError):
    """The agent's radio does not answer, or refused a setting."""

    code = ErrorCode.RADIO_FAILED


class InternalFailure(WireError):
    """A fault of the agent, not of the request."""

    code = ErrorCode.INTERNAL


_CLASSES: dict[ErrorCode, type[WireError]] = {
    cls.code: cls
    for cls in (
        ProtocolError,
        UnknownWidth,
        ShapeMismatch,
        ExpertNotResident,
        DeadlineExceeded,
        AgentBusy,
        AgentStopping,
        OutOfMemory,
        NotFinite,
        NotSupported,
        NoBurst,
        Overloaded,
        RadioFailed,
        InternalFailure,
    )
}


def error_class(code: ErrorCode) -> type[WireError]:
    """Return the class of errors of a code on the wire."""
    return _CLASSES[code]
