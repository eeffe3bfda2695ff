"""Frames between the driver process and its parent."""

from __future__ import annotations

import struct

import pytest

from siftmoe.radio.pluto.frames import (
    MAX_HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    Decoder,
    FrameError,
    encode,
)


def test_frames_survive_any_cutting_of_the_stream():
    sent = [({"op": "tune", "a": 1.5}, b"\0\1\2"), ({}, b""), ({"op": "ü"}, bytes(range(256)))]
    stream = b"".join(bytes(part) for frame in sent for part in encode(*frame))
    for step in (1, 2, 3, 7, len(stream)):
        decoder = Decoder()
        got = []
        for start in range(0, len(stream), step):
            got += decoder.feed(stream[start : start + step])
        assert [(header, bytes(payload)) for header, payload in got] == sent


@pytest.mark.parametrize(
    ("header_bytes", "payload_bytes"),
    [(MAX_HEADER_BYTES + 1, 0), (2, MAX_PAYLOAD_BYTES + 1), (2**32 - 1, 2**32 - 1)],
)
def test_lengths_are_checked_before_anything_is_stored(header_bytes, payload_bytes):
    with pytest.raises(FrameError, match="claims"):
        Decoder().feed(struct.pack("<II", header_bytes, payload_bytes))


@pytest.mark.parametrize("text", [b"nonsense", b"[1, 2]", b"\xff\xfe", b""])
def test_a_header_that_is_no_object_is_refused(text):
    with pytest.raises(FrameError, match="no JSON"):
        Decoder().feed(struct.pack("<II", len(text), 0) + text)


def test_what_nobody_would_read_is_not_written():
    with pytest.raises(ValueError, match="too long"):
        encode({"text": "x" * MAX_HEADER_BYTES})
    with pytest.raises(ValueError, match="too long"):
        encode({}, memoryview(bytearray(MAX_PAYLOAD_BYTES + 1)))
