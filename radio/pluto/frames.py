"""Frames between a driver process and its parent: a JSON header and raw samples.

::

    u32 length of the header   u32 length of the payload   header, JSON object   payload, raw

Lengths are little-endian. Nothing is unpickled, and every length is checked before data is stored.
"""

from __future__ import annotations

import json
import struct
from typing import Any

Header = dict[str, Any]
Frame = tuple[Header, bytearray]

_LENGTHS = struct.Struct("<II")
MAX_HEADER_BYTES = 64 * 1024
#: 4 million complex samples, 2 s at 2 MS/s.
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024


class FrameError(Exception):
    """The bytes are no frame; the start of the next one is unknown."""


def encode(header: Header, payload: bytes | memoryview = b"") -> list[bytes | memoryview]:
    """Encode a frame as parts, in order.

    Raises
    ------
    ValueError
        If header or payload is too long.
    """
    text = json.dumps(header).encode()
    size = memoryview(payload).nbytes
    if len(text) > MAX_HEADER_BYTES or size > MAX_PAYLOAD_BYTES:
        raise ValueError(
            f"frame of {len(text)} + {size} bytes is too long; at most {MAX_HEADER_BYTES} + "
            f"{MAX_PAYLOAD_BYTES}"
        )
    return [_LENGTHS.pack(len(text), size) + text, payload]


class Decoder:
    """Decodes frames from a stream of bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Add bytes and return the frames that are complete.

        Raises
        ------
        FrameError
            If a length exceeds its limit or a header is no JSON object.
        """
        self._buffer += data
        frames: list[Frame] = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        start = _LENGTHS.size
        if len(self._buffer) < start:
            return None
        header_bytes, payload_bytes = _LENGTHS.unpack_from(self._buffer)
        if header_bytes > MAX_HEADER_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
            raise FrameError(f"frame claims {header_bytes} + {payload_bytes} bytes")
        middle, end = start + header_bytes, start + header_bytes + payload_bytes
        if len(self._buffer) < end:
            return None
        header = _object(bytes(self._buffer[start:middle]))
        payload = self._buffer[middle:end]
        del self._buffer[:end]
        return header, payload


def _object(text: bytes) -> Header:
    try:
        value = json.loads(text)
    except ValueError:  # also of text that is no UTF-8
        raise FrameError(f"header is no JSON: {text[:40]!r}") from None
    if not isinstance(value, dict):
        raise FrameError(f"header is no JSON object: {text[:40]!r}")
    return value
