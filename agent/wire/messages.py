"""Messages between a coordinator and an agent, with the bounds of every field.

The fields of the header map stand here as typed structures, so that what is checked is what is
declared. :mod:`siftmoe.agent.wire.protocol` turns messages into frames and back; import from there.
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
    """Ask an agent who it is; also the heartbeat."""

    id: RequestId
    v: Version = VERSION


class HelloReply(
    Struct, frozen=True, kw_only=True, tag_field="kind", tag="hello", rename={"hidden_size": "d"}
):
    """What an agent is and hosts.

    Parameters
    ----------
    id : int
    name : str
        What the agent is called in the testbed file.
    version : str
        Version of siftmoe that it runs.
    model_hash : str
        Identity of the model it serves, :attr:`Manifest.model_hash`.
    residents : tuple of (layer, expert)
    provider : str
        ONNX Runtime's execution provider that was proven at start-up.
    hidden_size : int
        Length d of a hidden vector (``d`` on the wire).
    radio : str or None
        Address of its radio, if it has one.
    dtype : str
        What its experts compute in.
    memory_bytes : int
        What loading the experts added to the process, measured; 0 if not measured.
    widths : tuple of int, bit
        Of an entry of vectors that it takes and gives. An agent that does not say is an older one
        and knows floating-point numbers.
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
    v: Version = VERSION


class Stats(Struct, frozen=True, kw_only=True, tag_field="kind", tag="stats"):
    """Ask an agent how it is; also a heartbeat."""

    id: RequestId
    v: Version = VERSION


class StatsReply(Struct, frozen=True, kw_only=True, tag_field="kind", tag="stats"):
    """How an agent is.

    Parameters
    ----------
    id : int
    counters : dict
        Since the agent's start, and what waits and is in memory now.
    power_w : dict, W
        By supply rail.
    temperature_c, limit_c : dict, °C
        By thermal zone, and from where on the board slows down or goes off.
    throttling : dict
        0 to 1 by measure that slows the board down; nothing where that cannot be told.
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
    """Take part in a pilot exchange.

    Parameters
    ----------
    id : int
    role : "transmit" or "listen"
        Who transmits is answered as soon as the burst is on the air; who listens, with what it
        heard.
    start_s : float, s
        After the arrival of the request (``start`` on the wire): clocks are not compared.
    duration_s : float, s
        When a transmission ends by itself (``duration`` on the wire); 0 ends one that is on.
    burst : Burst
    pilot : PilotPower or None
        What is on the air, for who listens.
    """

    id: RequestId
    role: Literal["transmit", "listen"]
    burst: Burst
    start_s: Annotated[float, Meta(ge=0.0, le=MAX_SOUND_S)] = 0.0
    duration_s: Annotated[float, Meta(ge=0.0, le=MAX_SOUND_S)] = 0.0
    pilot: PilotPower | None = None
    v: Version = VERSION


class SoundReply(Struct, frozen=True, kw_only=True, tag_field="kind", tag="sound"):
    """What came of a :class:`Sound`.

    Parameters
    ----------
    id : int
    outcome : str
    pilot : PilotPower or None
        Of a transmission that is on.
    heard : Heard or None
        What was heard.
    on_air_s : float, s
        How long the transmission was on that ended ("silent").
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
    """An answer that is none: why a request was not served."""

    id: RequestId
    code: ErrorCode
    message: Text
    v: Version = VERSION


Request = Hello | Apply | Sound | Stats
Reply = HelloReply | Result | SoundReply | StatsReply | Failure
Message = Request | Reply


def failure_of(error: WireError, *, request_id: int) -> Failure:
    """Return the message that tells a peer of an error."""
    text = str(error)[:MAX_TEXT].encode("utf-8", "replace").decode("utf-8")
    return Failure(id=request_id, code=error.code, message=text)


def error_of(failure: Failure) -> WireError:
    """Return the error that a message tells of."""
    return error_class(failure.code)(failure.message)
