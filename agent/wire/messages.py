"""Messages between a coordinator and an agent, with the bounds of every field.

The fields of the header map stand here as typed structures, so that what is checked is what is
declared. :mod:`siftmoe.agent.wire.protocol` turns messages into frames and back; import from there.
"""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType
from numpy.typing import NDArray

from siftmoe.agent.errors import ErrorCode, WireError, error_class
from siftmoe.agent.wire.bounds import (
    MAX_HIDDEN_SIZE,
    MAX_RESIDENTS,
    MAX_TEXT,
    MAX_WIDTH,
    DTypeName,
    Duration,
    Expert,
    Figures,
    Layer,
    RequestId,
    Runs,
    Shape,
    Text,
    VectorsName,
    Width,
)
from siftmoe.agent.wire.packed import Packed, Vectors
from siftmoe.agent.wire.sound import MAX_SOUND_S, Burst, Heard, PilotPower
from siftmoe.models.vectors.packing import FLOAT_WIDTHS
from siftmoe.models.vectors.quantise import Rotation

#: Version of the protocol; a peer that speaks another is answered with an error.
VERSION: Final = 1

Version = Literal[1]

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


class Apply(Struct, frozen=True, kw_only=True, eq=False):
    """Run experts of one layer over hidden vectors.

    Parameters
    ----------
    id : int
        Unsigned 64 bit, echoed in the answer.
    layer : int
        MoE layer, counted from 0.
    hidden : (n, d) float32 or float16, or Packed
        A row that is not finite stays so; it never touches another row.
    pairs : (m, 2) int32
        (row, expert) in any order.
    weights : (m,) float32
        Weight of each pair; finite.
    deadline_s : float or None, s
        How long after its arrival the computation may begin; None waits.
    reply_width : int or None, bit
        Of an entry of the answer. None: as wide as ``hidden`` is, 16 if that is packed.
    reply_rotation : "none" or "hadamard"
        Of an answer that is quantised.
    """

    id: int
    layer: int
    hidden: Vectors
    pairs: NDArray[np.int32]
    weights: NDArray[np.float32]
    deadline_s: float | None = None
    reply_width: int | None = None
    reply_rotation: Rotation = "none"

    @property
    def answer_width(self) -> int:
        """Width of an entry of the answer, bit."""
        if self.reply_width is not None:
            return self.reply_width
        return 16 if isinstance(self.hidden, Packed) else 8 * self.hidden.dtype.itemsize

    @property
    def answer_bytes(self) -> int:
        """Bytes of the answer's vectors, scales and padding left out."""
        rows, size = self.hidden.shape
        return int(rows * size * self.answer_width // 8)


class Result(Struct, frozen=True, kw_only=True, eq=False):
    """For each row of an :class:`Apply` the weighted sum over this agent's experts.

    Parameters
    ----------
    id : int
    output : (n, d) float32 or float16, or Packed
    compute_s, queue_s : float, s
        Time of the computation (of the whole batch it was part of) and of waiting before it.
    """

    id: int
    output: Vectors
    compute_s: float
    queue_s: float


class ApplyHeader(Struct, frozen=True, kw_only=True, tag_field="kind", tag="apply"):
    """Frame 0 of an :class:`Apply`."""

    v: Version
    id: RequestId
    layer: Layer
    dtype: VectorsName
    shape: Shape
    deadline_ms: Duration | None = None
    widths: Runs | UnsetType = UNSET
    rotation: Rotation | UnsetType = UNSET
    reply_width: Width | UnsetType = UNSET
    reply_rotation: Rotation | UnsetType = UNSET


class ResultHeader(Struct, frozen=True, kw_only=True, tag_field="kind", tag="result"):
    """Frame 0 of a :class:`Result`."""

    v: Version
    id: RequestId
    dtype: VectorsName
    shape: Shape
    compute_s: Duration
    queue_s: Duration
    widths: Runs | UnsetType = UNSET
    rotation: Rotation | UnsetType = UNSET


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
