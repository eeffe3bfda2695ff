"""Messages between a coordinator and an agent, with the bounds of every field.

The fields of the header map are declared here as typed structures, and decoding checks exactly
these declarations. :mod:`siftmoe.agent.wire.protocol` converts messages to frames and back; import
from there.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from siftmoe.agent.errors import ErrorCode, WireError, error_class
from siftmoe.agent.wire.bounds import (
    MAX_HIDDEN_SIZE,
    MAX_RESIDENTS,
    MAX_TEXT,
    MAX_WIDTH,
    VERSION,
    DTypeName,
    Duration,
    Expert,
    Figures,
    Layer,
    RequestId,
    Text,
    Version,
    Width,
)
from siftmoe.agent.wire.sound import MAX_SOUND_S, Burst, Heard, PilotPower
from siftmoe.agent.wire.work import Apply, Result
from siftmoe.models.vectors.packing import FLOAT_WIDTHS

_SOUND_KEYS = {"start_s": "start", "duration_s": "duration"}


class Hello(Struct, frozen=True, kw_only=True, tag_field="kind", tag="hello"):
    """Request for an agent's identity and experts; also used as a heartbeat."""

    id: RequestId
    v: Version = VERSION


class HelloReply(
    Struct, frozen=True, kw_only=True, tag_field="kind", tag="hello", rename={"hidden_size": "d"}
):
    """Identity of an agent and the experts that it hosts.

    Parameters
    ----------
    id : int
    name : str
        Name of the agent in the testbed file.
    version : str
        Version of siftmoe that it runs.
    model_hash : str
        Identity of the model it serves, :attr:`Manifest.model_hash`.
    residents : tuple of (layer, expert)
    provider : str
        ONNX Runtime's execution provider, proven at start-up.
    hidden_size : int
        Length d of a hidden vector (``d`` on the wire).
    radio : str or None
        Address of its radio, if it has one.
    dtype : str
        Data type in which its experts compute.
    memory_bytes : int
        Memory that loading the experts added to the process, measured; 0 if not measured.
    widths : tuple of int, bit
        Bits per entry of the vectors that it accepts and sends. An agent that does not send this
        field is older and knows floating-point numbers only.
    sequences : bool
        Whether it looks for the pilot sequence that a transmitter names; an older agent does not.
    short : bool
        Whether it takes short headers and requests for answers of several widths, and answers a
        short header with a short one; an older agent does not.
    """

    id: RequestId
    name: Text
    version: Text
    model_hash: Text
    residents: Annotated[tuple[tuple[Layer, Expert], ...], Meta(max_length=MAX_RESIDENTS)]
    provider: Text
    hidden_size: Annotated[int, Meta(ge=1, le=MAX_HIDDEN_SIZE)]
    radio: Text | None = None
    dtype: DTypeName = "float32"
    memory_bytes: Annotated[int, Meta(ge=0)] = 0
    widths: Annotated[tuple[Width, ...], Meta(max_length=MAX_WIDTH)] = FLOAT_WIDTHS
    sequences: bool = False
    short: bool = False
    v: Version = VERSION


class Stats(Struct, frozen=True, kw_only=True, tag_field="kind", tag="stats"):
    """Request for an agent's counters and the state of its board; also a heartbeat."""

    id: RequestId
    v: Version = VERSION


class StatsReply(Struct, frozen=True, kw_only=True, tag_field="kind", tag="stats"):
    """Counters of an agent and the state of its board.

    Parameters
    ----------
    id : int
    counters : dict
        Counts since the agent's start, and the present figures of its queue and memory.
    power_w : dict, W
        By supply rail.
    temperature_c, limit_c : dict, °C
        By thermal zone: the temperature, and the limit at which the board slows down or turns off.
    throttling : dict
        0 to 1 by cooling device that slows the board down; empty where it cannot be read.
    """

    id: RequestId
    counters: Figures
    power_w: Figures = msgspec.field(default_factory=dict)
    temperature_c: Figures = msgspec.field(default_factory=dict)
    limit_c: Figures = msgspec.field(default_factory=dict)
    throttling: Figures = msgspec.field(default_factory=dict)
    v: Version = VERSION

    def __post_init__(self) -> None:
        every = (self.counters, self.power_w, self.temperature_c, self.limit_c, self.throttling)
        for figures in every:
            for name, value in figures.items():
                if not math.isfinite(value):
                    raise ValueError(f"figure {name!r} is {value}, not a finite number")


class Sound(Struct, frozen=True, kw_only=True, tag_field="kind", tag="sound", rename=_SOUND_KEYS):
    """Request to take part in a pilot exchange.

    Parameters
    ----------
    id : int
    role : "transmit" or "listen"
        A transmitter answers as soon as the burst is on the air, a listener when it has received.
    start_s : float, s
        Delay after the arrival of the request (``start`` on the wire): clocks are not compared.
    duration_s : float, s
        Length of a transmission (``duration`` on the wire); 0 ends one that is on.
    burst : Burst
    pilot : PilotPower or None
        The pilot on the air, for a listener.
    """

    id: RequestId
    role: Literal["transmit", "listen"]
    burst: Burst
    start_s: Annotated[float, Meta(ge=0.0, le=MAX_SOUND_S)] = 0.0
    duration_s: Annotated[float, Meta(ge=0.0, le=MAX_SOUND_S)] = 0.0
    pilot: PilotPower | None = None
    v: Version = VERSION


class SoundReply(Struct, frozen=True, kw_only=True, tag_field="kind", tag="sound"):
    """Outcome of a :class:`Sound`.

    Parameters
    ----------
    id : int
    outcome : str
    pilot : PilotPower or None
        Of a transmission that is on.
    heard : Heard or None
        The channel estimate of a listener.
    on_air_s : float, s
        Time on the air of the transmission that ended ("silent").
    """

    id: RequestId
    outcome: Literal["transmitting", "silent", "heard"]
    pilot: PilotPower | None = None
    heard: Heard | None = None
    on_air_s: Duration = 0.0
    v: Version = VERSION

    def __post_init__(self) -> None:
        has = {"transmitting": self.pilot, "heard": self.heard}
        if self.outcome in has and has[self.outcome] is None:
            raise ValueError(f"outcome {self.outcome!r} has no content")


class Failure(Struct, frozen=True, kw_only=True, tag_field="kind", tag="error"):
    """Error reply: the reason why a request was not served."""

    id: RequestId
    code: ErrorCode
    message: Text
    v: Version = VERSION


Request = Hello | Apply | Sound | Stats
Reply = HelloReply | Result | SoundReply | StatsReply | Failure
Message = Request | Reply


def failure_of(error: WireError, *, request_id: int) -> Failure:
    """Return the error reply for an error."""
    text = str(error)[:MAX_TEXT].encode("utf-8", "replace").decode("utf-8")
    return Failure(id=request_id, code=error.code, message=text)


def error_of(failure: Failure) -> WireError:
    """Return the error of an error reply."""
    return error_class(failure.code)(failure.message)
