"""Conversion of messages to frames and back, without sockets (sans-I/O).

Frame 0 is a msgpack map, or for peers that know it a short header (`siftmoe.agent.wire.short`);
the other frames are raw little-endian buffers; ``docs/reference/protocol.md`` has the tables.
:func:`decode` keeps these rules, whatever a peer sends:

- it raises :class:`ProtocolError` and nothing else (:class:`UnknownWidth` is one);
- nothing is allocated in proportion to a number in a header: every length is bounded and compared
  with shape × dtype before use, and arrays are views into the frames; packed rows stay packed, and
  their unpacked size is bounded too;
- unknown header keys are ignored; unknown kinds and versions are errors that carry the request's
  id, so that they can be answered;
- a weight must be finite. Hidden vectors are not checked: an expert works row by row, so a row that
  overflowed at the sender affects no other row, as in the undivided model.

A reply to ``hello``, ``stats`` or ``sound`` has the kind of its request and is recognised by its
content.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from siftmoe.agent.errors import ProtocolError
from siftmoe.agent.wire.bounds import MAX_FRAME_BYTES, MAX_HEADER_BYTES, VERSION, RequestId
from siftmoe.agent.wire.maps import apply_header, apply_of, result_header, result_of
from siftmoe.agent.wire.messages import (
    Failure,
    Hello,
    HelloReply,
    Message,
    Reply,
    Request,
    Sound,
    SoundReply,
    Stats,
    StatsReply,
    error_of,
    failure_of,
)
from siftmoe.agent.wire.packed import (
    Packed,
    Vectors,
    pack_rows,
    pack_runs,
    packed,
    plain,
    plain_all,
)
from siftmoe.agent.wire.packed_check import check_widths
from siftmoe.agent.wire.payload import (
    ZERO_COPY_BYTES,
    Frame,
    dtype_name,
    frame_of,
)
from siftmoe.agent.wire.short import Hosted, decode_short, encode_apply, encode_result, is_short
from siftmoe.agent.wire.sound import Burst, Heard, PilotPower
from siftmoe.agent.wire.work import Apply, ApplyHeader, Result, ResultHeader
from siftmoe.models.vectors.records import ROW_WIDTHS

__all__ = [
    "MAX_FRAME_BYTES",
    "VERSION",
    "ZERO_COPY_BYTES",
    "Apply",
    "Burst",
    "Failure",
    "Frame",
    "Heard",
    "Hello",
    "HelloReply",
    "Message",
    "Packed",
    "PilotPower",
    "Reply",
    "Request",
    "Result",
    "Sound",
    "SoundReply",
    "Stats",
    "StatsReply",
    "Vectors",
    "decode",
    "encode",
    "error_of",
    "failure_of",
    "pack_rows",
    "pack_runs",
    "packed",
    "plain",
    "plain_all",
]

_S_TO_MS = 1e3
_KEPT_OF_KIND = 64

_encoder = msgspec.msgpack.Encoder()


def encode(message: Message) -> list[Frame]:
    """Convert a message to frames; a large contiguous array is not copied.

    Raises
    ------
    TypeError, ValueError
        If an array has a dtype or shape that the protocol does not allow, or a number is too large.
    """
    if isinstance(message, Apply):
        _check_apply(message)
        return encode_apply(message) or [
            _pack(apply_header(message)),
            *(frame_of(part) for part in (message.hidden, message.pairs, message.weights)),
        ]
    if isinstance(message, Result):
        if message.short:
            dtype_name(message.output, "output")
            return encode_result(message)
        return [_pack(result_header(message)), frame_of(message.output)]
    return [_pack(message)]


def _check_apply(message: Apply) -> None:
    pairs, weights = message.pairs, message.weights
    dtype_name(message.hidden, "hidden")
    if pairs.dtype != np.int32 or weights.dtype != np.float32:
        raise TypeError(f"pairs are int32 and weights float32, got {pairs.dtype}, {weights.dtype}")
    if pairs.shape != (len(weights), 2) or weights.ndim != 1:
        raise ValueError(f"pairs are [m, 2], weights [m]; got {pairs.shape}, {weights.shape}")
    check_widths((width for width, _ in message.answer_runs), known=ROW_WIDTHS, what="reply_width")
    if sum(rows for _, rows in message.answer_runs) != len(message.hidden):
        raise ValueError(f"reply_runs {message.reply_runs} are not of {len(message.hidden)} rows")


def _pack(header: msgspec.Struct) -> bytes:
    try:
        return _encoder.encode(header)
    except OverflowError as error:
        raise ValueError(f"a number in {header!r} does not fit into 64 bit") from error


def decode(frames: Sequence[Frame], hosted: Hosted | None = None) -> Message:
    """Convert frames to a message; its arrays are views into the frames.

    Parameters
    ----------
    frames : sequence of bytes-like
    hosted : Hosted or None
        What short headers are read by; None: they are an error.

    Raises
    ------
    ProtocolError
        If the frames are not a message; it carries the request's id if that could be read.
    """
    if not frames:
        raise ProtocolError("a message has at least one frame, got none")
    if len(frames[0]) > MAX_HEADER_BYTES:
        raise ProtocolError(f"header of {len(frames[0])} bytes, at most {MAX_HEADER_BYTES}")
    if is_short(frames[0]):
        return decode_short(frames, hosted)
    try:
        header = _FREQUENT.decode(frames[0])
    except _INVALID:  # another kind or not valid: decode slowly, to name the error
        return _decode_other(frames)
    return _with_payload(header, frames)


def _decode_other(frames: Sequence[Frame]) -> Message:
    envelope = _read(_ENVELOPE, frames[0], request_id=0)
    if envelope.v != VERSION:
        raise ProtocolError(
            f"protocol version {envelope.v}, this end speaks {VERSION}; install the same siftmoe "
            f"on both sides",
            envelope.id,
        )
    decoders = _DECODERS.get(envelope.kind)
    if decoders is None:
        known = ", ".join(_DECODERS)
        kind = envelope.kind[:_KEPT_OF_KIND]
        raise ProtocolError(f"unknown kind {kind!r}, known: {known}", envelope.id)
    header = _read(decoders[envelope.is_reply], frames[0], request_id=envelope.id)
    if isinstance(header, ApplyHeader | ResultHeader):
        return _with_payload(header, frames)
    _expect_frames(frames, 0, header.id)
    message: Message = header
    return message


class _Envelope(msgspec.Struct, kw_only=True, gc=False):
    """Fields that every header has, and the keys that distinguish a reply from its request."""

    v: int
    id: RequestId = 0
    kind: str = ""
    name: msgspec.Raw = msgspec.Raw(b"")
    counters: msgspec.Raw = msgspec.Raw(b"")
    outcome: msgspec.Raw = msgspec.Raw(b"")

    @property
    def is_reply(self) -> bool:
        """Whether it has the content of a reply to ``hello``, ``stats`` or ``sound``."""
        mark = {"hello": self.name, "stats": self.counters, "sound": self.outcome}.get(self.kind)
        return mark is not None and len(memoryview(mark)) > 0


def _pair(request: Any, reply: Any) -> tuple[msgspec.msgpack.Decoder[Any], ...]:
    return msgspec.msgpack.Decoder(request), msgspec.msgpack.Decoder(reply)


_INVALID = (msgspec.MsgspecError, ValueError, RecursionError)
_ENVELOPE = msgspec.msgpack.Decoder(_Envelope)
_FREQUENT = msgspec.msgpack.Decoder(ApplyHeader | ResultHeader)
#: Kind -> decoders of its request and of its reply.
_DECODERS = {
    "hello": _pair(Hello, HelloReply),
    "apply": _pair(ApplyHeader, ApplyHeader),
    "result": _pair(ResultHeader, ResultHeader),
    "sound": _pair(Sound, SoundReply),
    "stats": _pair(Stats, StatsReply),
    "error": _pair(Failure, Failure),
}


def _read(decoder: msgspec.msgpack.Decoder[Any], header: Frame, *, request_id: int) -> Any:
    try:
        return decoder.decode(header)
    except _INVALID as error:
        raise ProtocolError(f"header is not valid: {error}", request_id) from error


def _with_payload(header: ApplyHeader | ResultHeader, frames: Sequence[Frame]) -> Message:
    if isinstance(header, ApplyHeader):
        _expect_frames(frames, 3, header.id)
        return apply_of(header, frames[1:])
    _expect_frames(frames, 1, header.id)
    return result_of(header, frames[1])


def _expect_frames(frames: Sequence[Frame], count: int, request_id: int) -> None:
    if len(frames) != 1 + count:
        raise ProtocolError(
            f"{count} frames follow a header of this kind, got {len(frames) - 1}", request_id
        )
