"""Clients that never end a message, spoken byte by byte: the agent does not keep it all."""

import contextlib
import socket
import struct

import numpy as np
from served_agent import PATIENCE_MS, SHAPE, ask, check, request

from siftmoe.agent.wire import protocol
from siftmoe.agent.wire.bounds import frame_limit

MIB = 1 << 20
#: ZMTP 3.1 without encryption, and the command READY of a DEALER.
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(16) + bytes(32)
READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
LIMIT = frame_limit(SHAPE.hidden_size) + 16 * MIB


@contextlib.contextmanager
def spoken(bench):
    """Connect without libzmq, which sends a message only when it is complete."""
    host, _, port = bench.server.endpoint.removeprefix("tcp://").partition(":")
    with socket.create_connection((host, int(port)), PATIENCE_MS / 1e3) as peer:
        peer.sendall(GREETING + b"\x04" + bytes([len(READY)]) + READY)
        heard = b""
        while b"Identity" not in heard:  # the end of its READY: the handshake is complete
            heard += peer.recv(4_096)
        yield peer


def frame(data, *, more):
    return bytes([2 | more]) + struct.pack(">Q", len(data)) + data


def test_a_message_that_does_not_end_closes_its_connection(bench):
    sent = 0
    with spoken(bench) as peer, bench.client() as other:
        part = frame(bytes(MIB), more=True)
        with contextlib.suppress(ConnectionError):
            while sent < 40 * LIMIT:
                peer.sendall(part)
                sent += MIB
        assert sent < 40 * LIMIT
        counters = ask(other, protocol.Stats(id=1)).counters
        assert counters["messages_unfinished"] == 1
        check(ask(other, message := request(2)), message)


def test_many_messages_that_end_are_received(bench):
    """Far more bytes than the limit, over one connection."""
    with bench.client() as client, spoken(bench) as peer:
        rows = np.ones((4_096, 16), np.float32)
        for number in range(150):  # of 256 KiB each
            peer.sendall(frame(b"x", more=True) + frame(rows.tobytes(), more=False))
            check(ask(client, message := request(number, rows=4_000)), message)
        counters = ask(client, protocol.Stats(id=1)).counters
    assert 150 * rows.nbytes > LIMIT
    assert counters["answered_protocol"] == 150
    assert "messages_unfinished" not in counters
