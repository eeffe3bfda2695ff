"""Short headers: a few bytes in the place of the map of ``apply`` and ``result``.

Both ends know the model and what the agent hosts, so a short header leaves out what they know:
names, the length of a vector, experts' numbers. Peers use it that say so in ``hello``; a map never
begins with its first byte. It counts as control in the books, as does what it has for each row
(`siftmoe.agent.wire.control`); docs/reference/protocol.md has the layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from siftmoe.agent.errors import ProtocolError
from siftmoe.agent.wire.bounds import MAX_HEADER_BYTES, MAX_LAYERS
from siftmoe.agent.wire.control import ID_BITS, bits_for, tag_of
from siftmoe.agent.wire.packed import Packed, Vectors, runs_of
from siftmoe.agent.wire.packed_check import packed_of
from siftmoe.agent.wire.payload import Frame, frame_of, matrix_of
from siftmoe.agent.wire.short_fields import (
    Header,
    Runs,
    joined,
    merged,
    seconds,
    varint,
    write_runs,
)
from siftmoe.agent.wire.short_rows import arranged, pairs_of_rows
from siftmoe.agent.wire.work import Apply, Result
from siftmoe.models.vectors.packing import FLOAT_WIDTHS
from siftmoe.models.vectors.quantise import Rotation

ID_MASK: Final = (1 << ID_BITS) - 1
_RESULT, _ROTATED, _REPLY_ROTATED, _DEADLINE, _MIXED = 0x10, 0x08, 0x04, 0x02, 0x01
_UNKNOWN: Final = 0xE0
_ROTATIONS: tuple[Rotation, Rotation] = ("none", "hadamard")
_DTYPE: Final = {16: "float16", 32: "float32"}


class Hosted(Protocol):
    """What both ends know: the length of a vector, and what the agent hosts."""

    @property
    def hidden_size(self) -> int:
        """Entries of a vector."""
        ...

    def experts_of(self, layer: int) -> Sequence[int]:
        """Experts of a layer that the agent hosts, ascending."""
        ...


def is_short(header: Frame) -> bool:
    """Whether frame 0 is a short header: the first byte of a map has its highest bit set."""
    return len(header) > 0 and header[0] < 0x80


def encode_apply(message: Apply) -> list[Frame] | None:
    """Convert a request to frames; None if it needs the map.

    A short header has room for rows with 1 to 16 experts, the largest weight of each being 1.
    """
    residents, replies = message.residents, message.answer_runs
    if residents is None or message.layer >= MAX_LAYERS:
        return None
    rows = arranged(message.pairs, message.weights, residents=residents, reply_runs=replies)
    if rows is None:
        return None
    flags = _rotated(message.hidden) | (_MIXED if rows.mixed else 0)
    flags |= _REPLY_ROTATED if message.reply_rotation != "none" else 0
    flags |= _DEADLINE if message.deadline_s is not None else 0
    head = bytearray((flags, (rows.most - 1) << 4 | bits_for(len(residents)), tag_of(residents)))
    head += (message.id & ID_MASK).to_bytes(2, "little") + varint(message.layer)
    if message.deadline_s is not None:
        head += seconds(message.deadline_s, up=True)
    head += write_runs(joined(runs_of(message.hidden), replies)) + rows.write(len(residents))
    return None if len(head) > MAX_HEADER_BYTES else [bytes(head), frame_of(message.hidden)]


def encode_result(message: Result) -> list[Frame]:
    """Convert a result to frames; its times are rounded down to 3 digits."""
    head = bytearray((_RESULT | _rotated(message.output),))
    head += (message.id & ID_MASK).to_bytes(2, "little")
    head += seconds(message.compute_s) + seconds(message.queue_s)
    runs = runs_of(message.output)
    head += write_runs([(width, width, count) for width, count in runs])
    return [bytes(head), frame_of(message.output)]


def _rotated(vectors: Vectors) -> int:
    return _ROTATED if isinstance(vectors, Packed) and vectors.rotation != "none" else 0


def decode_short(frames: Sequence[Frame], hosted: Hosted | None) -> Apply | Result:
    """Convert frames to a request or a result; its arrays are views where they can be.

    Raises
    ------
    ProtocolError
        If the frames are none, or nothing is known of the model.
    """
    header = Header(frames[0])
    flags = header.byte()
    if flags & _UNKNOWN:
        raise ProtocolError(f"a short header begins with {flags:#04x}, which is none known here")
    if hosted is None:
        raise ProtocolError("a short header, but no model is known here to read it by")
    if len(frames) != 2:
        raise ProtocolError(f"1 frame follows a short header, got {len(frames) - 1}")
    if flags & _RESULT:
        return _decode_result(flags, header, frames[1], hosted.hidden_size)
    return _decode_apply(flags, header, frames[1], hosted)


def _decode_result(flags: int, header: Header, frame: Frame, size: int) -> Result:
    request_id, compute_s, queue_s = header.number(2), header.seconds(), header.seconds()
    runs = merged((width, count) for width, _, count in header.runs(request_id))
    if more := len(header.rest()):
        raise ProtocolError(f"{more} bytes follow the short header of a result", request_id)
    return Result(
        id=request_id,
        output=_vectors(frame, runs, size, flags, what="output", request_id=request_id),
        compute_s=compute_s,
        queue_s=queue_s,
        short=True,
    )


def _decode_apply(flags: int, header: Header, frame: Frame, hosted: Hosted) -> Apply:
    sizes, tag, request_id, layer = header.byte(), header.byte(), header.number(2), header.varint()
    if layer >= MAX_LAYERS:
        raise ProtocolError(f"layer {layer}, there are at most {MAX_LAYERS}", request_id)
    residents = hosted.experts_of(layer)
    if not residents or tag != tag_of(residents) or sizes & 0x0F != bits_for(len(residents)):
        raise ProtocolError(
            f"a request counts among other experts of layer {layer} than the {len(residents)} that "
            f"are hosted here; ask hello who hosts what",
            request_id,
        )
    deadline_s = header.seconds() if flags & _DEADLINE else None
    both = header.runs(request_id)
    runs = merged((width, count) for width, _, count in both)
    replies = merged((width, count) for _, width, count in both)
    hidden = _vectors(frame, runs, hosted.hidden_size, flags, what="hidden", request_id=request_id)
    pairs, weights = pairs_of_rows(
        header.rest(),
        residents=residents,
        reply_runs=replies,
        most=(sizes >> 4) + 1,
        mixed=bool(flags & _MIXED),
        request_id=request_id,
    )
    return Apply(
        id=request_id,
        layer=layer,
        hidden=hidden,
        pairs=pairs,
        weights=weights,
        deadline_s=deadline_s,
        reply_runs=replies,
        reply_rotation=_ROTATIONS[bool(flags & _REPLY_ROTATED)],
        residents=tuple(residents),
    )


def _vectors(
    frame: Frame, runs: Runs, size: int, flags: int, *, what: str, request_id: int
) -> Vectors:
    shape = (sum(count for _, count in runs), size)
    width = runs[0][0]
    if len(runs) == 1 and width in FLOAT_WIDTHS:
        dtype = _DTYPE[width]
        return matrix_of(frame, dtype=dtype, shape=shape, what=what, request_id=request_id)
    rotation = _ROTATIONS[bool(flags & _ROTATED)]
    return packed_of(
        frame, shape=shape, runs=runs, rotation=rotation, what=what, request_id=request_id
    )
