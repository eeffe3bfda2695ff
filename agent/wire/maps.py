"""Headers of ``apply`` and ``result`` as maps: from messages, and back with their frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import UNSET

from siftmoe.agent.errors import ProtocolError
from siftmoe.agent.wire.bounds import VERSION
from siftmoe.agent.wire.packed import Vectors
from siftmoe.agent.wire.packed_check import check_widths, packed_of
from siftmoe.agent.wire.payload import (
    Frame,
    dtype_name,
    matrix_of,
    pairs_of,
    runs_and_rotation,
    weights_of,
)
from siftmoe.agent.wire.work import Apply, ApplyHeader, Result, ResultHeader
from siftmoe.models.vectors.records import ROW_WIDTHS

_S_TO_MS: Final = 1e3


def apply_header(message: Apply) -> ApplyHeader:
    """Make the header of a request."""
    hidden = message.hidden
    name = dtype_name(hidden, "hidden")
    deadline_ms = None if message.deadline_s is None else message.deadline_s * _S_TO_MS
    widths, rotation = runs_and_rotation(hidden)
    return ApplyHeader(
        v=VERSION,
        id=message.id,
        layer=message.layer,
        dtype=name,
        shape=hidden.shape,
        deadline_ms=deadline_ms,
        widths=widths,
        rotation=rotation,
        reply_width=UNSET if message.reply_width is None else message.reply_width,
        reply_rotation=UNSET if message.reply_rotation == "none" else message.reply_rotation,
        reply_widths=UNSET if message.reply_runs is None else message.reply_runs,
    )


def result_header(message: Result) -> ResultHeader:
    """Make the header of a result."""
    output = message.output
    widths, rotation = runs_and_rotation(output)
    return ResultHeader(
        v=VERSION,
        id=message.id,
        dtype=dtype_name(output, "output"),
        shape=output.shape,
        compute_s=message.compute_s,
        queue_s=message.queue_s,
        widths=widths,
        rotation=rotation,
    )


def result_of(header: ResultHeader, frame: Frame) -> Result:
    """Make a result from its header and its frame; ProtocolError if it is none."""
    return Result(
        id=header.id,
        output=_vectors(frame, header, "output"),
        compute_s=header.compute_s,
        queue_s=header.queue_s,
    )


def apply_of(header: ApplyHeader, frames: Sequence[Frame]) -> Apply:
    """Make a request from its header and its frames; ProtocolError if it is none."""
    pairs = pairs_of(frames[1], num_rows=header.shape[0], request_id=header.id)
    deadline_ms, reply_width = header.deadline_ms, header.reply_width
    if reply_width is not UNSET:
        check_widths((reply_width,), known=ROW_WIDTHS, what="reply_width", request_id=header.id)
    reply_runs = None if header.reply_widths is UNSET else header.reply_widths
    if reply_runs is not None:
        _check_reply_runs(reply_runs, header)
    return Apply(
        id=header.id,
        layer=header.layer,
        hidden=_vectors(frames[0], header, "hidden"),
        pairs=pairs,
        weights=weights_of(frames[2], num_pairs=len(pairs), request_id=header.id),
        deadline_s=None if deadline_ms is None else deadline_ms / _S_TO_MS,
        reply_width=None if reply_width is UNSET else reply_width,
        reply_rotation="none" if header.reply_rotation is UNSET else header.reply_rotation,
        reply_runs=reply_runs,
    )


def _check_reply_runs(runs: tuple[tuple[int, int], ...], header: ApplyHeader) -> None:
    widths = (width for width, _ in runs)
    check_widths(widths, known=ROW_WIDTHS, what="reply_widths", request_id=header.id)
    rows = sum(count for _, count in runs)
    if rows != header.shape[0]:
        raise ProtocolError(
            f"reply_widths are of {rows} rows, the request has {header.shape[0]}", header.id
        )


def _vectors(frame: Frame, header: ApplyHeader | ResultHeader, what: str) -> Vectors:
    if header.dtype == "packed":
        if header.widths is UNSET:
            raise ProtocolError(f"{what} is packed, the header has no widths", header.id)
        return packed_of(
            frame,
            shape=header.shape,
            runs=header.widths,
            rotation="none" if header.rotation is UNSET else header.rotation,
            what=what,
            request_id=header.id,
        )
    return matrix_of(frame, dtype=header.dtype, shape=header.shape, what=what, request_id=header.id)
