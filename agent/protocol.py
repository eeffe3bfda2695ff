"""Messages to frames and back, without any socket (sans-I/O).

Frame 0 is a msgpack map, the rest are raw little-endian buffers; the table is in
``docs/protocol.md``. Rules that :func:`decode` keeps whatever a peer sends:

- it raises :class:`ProtocolError` and nothing else;
- nothing is allocated in proportion to a number that a peer claims: every length is bounded and
  compared with shape × dtype before use, and arrays are views into the frames;
- unknown header keys are ignored, unknown kinds and versions are errors that carry the request's
  id, so that they can be answered;
- a weight must be finite. Hidden vectors pass as they are: an expert works row by row, so a row
  that overflowed at the sender stays its own problem, as it would in the undivided model.

A reply to ``hello``, ``stats`` or ``sound`` has the kind of its request and is told from it by
its content.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from siftmoe.agent.errors import ProtocolError
from siftmoe.agent.messages import (
    MAX_EXPERTS,
    MAX_FRAME_BYTES,
    MAX_HEADER_BYTES,
    MAX_PAIRS,
    VERSION,
    Apply,
    ApplyHeader,
    Failure,
    Hello,
    HelloReply,
    Message,
    Reply,
    Request,
    RequestId,
    Result,
    ResultHeader,
    Sound,
    SoundReply,
    Stats,
    StatsReply,
    error_of,
    failure_of,
)

__all__ = [
    "MAX_FRAME_BYTES",
    "VERSION",
    "Apply",
    "Failure",
    "Frame",
    "Hello",
    "HelloReply",
    "Message",
    "Reply",
    "Request",
    "Result",
    "Sound",
    "SoundReply",
    "Stats",
    "StatsReply",
    "decode",
    "encode",
    "error_of",
    "failure_of",
]

Frame = bytes | bytearray | memoryview

_DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}
_NAMES = {np.dtype(np.float32): "float32", np.dtype(np.float16): "float16"}
_INT32 = np.dtype("<i4")
_FLOAT32 = np.dtype("<f4")
_S_TO_MS = 1e3
_KEPT_OF_KIND = 64

_encoder = msgspec.msgpack.Encoder()
_T = TypeVar("_T")


def encode(message: Message) -> list[Frame]:
    """Turn a message into frames; arrays are not copied if they are contiguous.

    Raises
    ------
    TypeError, ValueError
        If an array has a dtype or shape that the protocol does not have, or a number does not fit.
    """
    if isinstance(message, Apply):
        return _encode_apply(message)
    if isinstance(message, Result):
        name = _dtype_name(message.output, "output")
        header = ResultHeader(
            id=message.id,
            dtype=name,
            shape=message.output.shape,
            compute_s=message.compute_s,
            queue_s=message.queue_s,
        )
        return [_pack(header), _bytes_of(message.output)]
    return [_pack(message)]


def _encode_apply(message: Apply) -> list[Frame]:
    hidden, pairs, weights = message.hidden, message.pairs, message.weights
    name = _dtype_name(hidden, "hidden")
    if pairs.dtype != np.int32 or weights.dtype != np.float32:
        raise TypeError(f"pairs are int32 and weights float32, got {pairs.dtype}, {weights.dtype}")
    if pairs.shape != (len(weights), 2) or weights.ndim != 1:
        raise ValueError(f"pairs are [m, 2], weights [m]; got {pairs.shape}, {weights.shape}")
    deadline_ms = None if message.deadline_s is None else message.deadline_s * _S_TO_MS
    header = ApplyHeader(
        id=message.id, layer=message.layer, dtype=name, shape=hidden.shape, deadline_ms=deadline_ms
    )
    return [_pack(header), _bytes_of(hidden), _bytes_of(pairs), _bytes_of(weights)]


def _pack(header: msgspec.Struct) -> bytes:
    try:
        return _encoder.encode(header)
    except OverflowError as error:
        raise ValueError(f"a number in {header!r} does not fit into 64 bit") from error


def _dtype_name(array: NDArray[Any], what: str) -> Any:
    name = _NAMES.get(array.dtype)
    if name is None:
        raise TypeError(f"{what} is float32 or float16, got {array.dtype}")
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{what} is [n, d] and not empty, got shape {array.shape}")
    return name


def _bytes_of(array: NDArray[Any]) -> memoryview:
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data


def decode(frames: Sequence[Frame]) -> Message:
    """Turn frames into a message; its arrays are views into the frames.

    Raises
    ------
    ProtocolError
        If the frames are not a message; it carries the request's id where one could be read.
    """
    if not frames:
        raise ProtocolError("a message has at least one frame, got none")
    header, payload = frames[0], [memoryview(frame) for frame in frames[1:]]
    if len(header) > MAX_HEADER_BYTES:
        raise ProtocolError(f"header of {len(header)} bytes, at most {MAX_HEADER_BYTES}")
    envelope = _read(_ENVELOPE, header, 0)
    if envelope.v != VERSION:
        raise ProtocolError(
            f"protocol version {envelope.v}, this end speaks {VERSION}; install the same siftmoe "
            f"on both sides",
            envelope.id,
        )
    reader = _READERS.get(envelope.kind)
    if reader is None:
        known = ", ".join(_READERS)
        kind = envelope.kind[:_KEPT_OF_KIND]
        raise ProtocolError(f"unknown kind {kind!r}, known: {known}", envelope.id)
    return reader(envelope, header, payload)


class _Envelope(msgspec.Struct, kw_only=True, gc=False):
    """What every header has, and the keys that tell a reply from its request."""

    v: int
    id: RequestId = 0
    kind: str = ""
    name: msgspec.Raw = msgspec.Raw(b"")
    counters: msgspec.Raw = msgspec.Raw(b"")
    gain: msgspec.Raw = msgspec.Raw(b"")


_Reader = Callable[[_Envelope, Frame, list[memoryview]], Message]
_ENVELOPE = msgspec.msgpack.Decoder(_Envelope)
_APPLY = msgspec.msgpack.Decoder(ApplyHeader)
_RESULT = msgspec.msgpack.Decoder(ResultHeader)
_FAILURE = msgspec.msgpack.Decoder(Failure)


def _read(decoder: msgspec.msgpack.Decoder[_T], header: Frame, request_id: int) -> _T:
    try:
        return decoder.decode(header)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"header is not valid: {error}", request_id) from error


def _plain(request: type[Any], reply: type[Any], mark: str) -> _Reader:
    """Return a reader for a kind whose reply has the same kind and the key ``mark``."""
    ask, answer = msgspec.msgpack.Decoder(request), msgspec.msgpack.Decoder(reply)

    def read(envelope: _Envelope, header: Frame, payload: list[memoryview]) -> Message:
        _expect_frames(payload, 0, envelope)
        is_reply = len(memoryview(getattr(envelope, mark))) > 0
        message: Message = _read(answer if is_reply else ask, header, envelope.id)
        return message

    return read


def _decode_failure(envelope: _Envelope, header: Frame, payload: list[memoryview]) -> Message:
    _expect_frames(payload, 0, envelope)
    return _read(_FAILURE, header, envelope.id)


def _decode_result(envelope: _Envelope, header: Frame, payload: list[memoryview]) -> Message:
    _expect_frames(payload, 1, envelope)
    fields = _read(_RESULT, header, envelope.id)
    return Result(
        id=fields.id,
        output=_matrix(payload[0], fields, "output"),
        compute_s=fields.compute_s,
        queue_s=fields.queue_s,
    )


def _decode_apply(envelope: _Envelope, header: Frame, payload: list[memoryview]) -> Message:
    _expect_frames(payload, 3, envelope)
    fields = _read(_APPLY, header, envelope.id)
    hidden = _matrix(payload[0], fields, "hidden")
    pairs, weights = _pairs(payload[1], payload[2], len(hidden), fields.id)
    deadline_s = None if fields.deadline_ms is None else fields.deadline_ms / _S_TO_MS
    return Apply(
        id=fields.id,
        layer=fields.layer,
        hidden=hidden,
        pairs=pairs,
        weights=weights,
        deadline_s=deadline_s,
    )


def _expect_frames(payload: list[memoryview], count: int, envelope: _Envelope) -> None:
    if len(payload) != count:
        raise ProtocolError(
            f"{envelope.kind}: {count} frames follow the header, got {len(payload)}", envelope.id
        )


def _matrix(
    frame: memoryview, fields: ApplyHeader | ResultHeader, what: str
) -> NDArray[np.floating[Any]]:
    dtype = _DTYPES[fields.dtype]
    expected = fields.shape[0] * fields.shape[1] * dtype.itemsize
    if expected > MAX_FRAME_BYTES or frame.nbytes != expected:
        raise ProtocolError(
            f"{what} {list(fields.shape)} {fields.dtype} is {expected} bytes (at most "
            f"{MAX_FRAME_BYTES}), the frame has {frame.nbytes}",
            fields.id,
        )
    matrix: NDArray[np.floating[Any]] = np.frombuffer(frame, dtype).reshape(fields.shape)
    return matrix  # [n, d]


def _pairs(
    pairs: memoryview, weights: memoryview, num_rows: int, request_id: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    m, rest = divmod(pairs.nbytes, 2 * _INT32.itemsize)
    if rest or not 1 <= m <= MAX_PAIRS or weights.nbytes != m * _FLOAT32.itemsize:
        raise ProtocolError(
            f"pairs are int32 [m, 2] and weights float32 [m] with 1 <= m <= {MAX_PAIRS}, the "
            f"frames have {pairs.nbytes} and {weights.nbytes} bytes",
            request_id,
        )
    table = np.frombuffer(pairs, _INT32).reshape(m, 2)
    values = np.frombuffer(weights, _FLOAT32)
    # Seen as unsigned a negative index is a huge one: one comparison checks both ends.
    rows, experts = table.view(np.uint32).max(axis=0).tolist()
    if rows >= num_rows or experts >= MAX_EXPERTS:
        raise ProtocolError(
            f"a pair is (row, expert) with 0 <= row < {num_rows} and 0 <= expert < {MAX_EXPERTS}, "
            f"got one outside",
            request_id,
        )
    if not np.isfinite(values).all():
        raise ProtocolError("weights must be finite", request_id)
    return table, values


_READERS: dict[str, _Reader] = {
    "hello": _plain(Hello, HelloReply, "name"),
    "apply": _decode_apply,
    "result": _decode_result,
    "sound": _plain(Sound, SoundReply, "gain"),
    "stats": _plain(Stats, StatsReply, "counters"),
    "error": _decode_failure,
}
