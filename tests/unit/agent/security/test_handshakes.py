"""Connections that are not authenticated: bounded in number, in bytes and in descriptors."""

import contextlib
import logging
import socket
import struct

import pytest
from guarded import FRIEND, PATIENCE_S, Door, until

from siftmoe.agent.security import authenticator, handshakes

MIB = 1 << 20
#: ZMTP 3.1 with the mechanism CURVE, from a client.
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE" + bytes(15) + bytes(32)
#: The head of a handshake message (a command) of 200 MiB.
LARGE = b"\x06" + struct.pack(">Q", 200 * MIB)


@pytest.fixture
def door():
    door = Door()
    yield door
    door.close()


def friend_is_heard(door):
    door.knock(FRIEND)
    return door.router.poll(PATIENCE_S * 1e3) and door.router.recv_multipart()[1:] == [b"hello"]


def test_a_stranger_cannot_send_a_large_handshake(door, caplog):
    with (
        caplog.at_level(logging.WARNING),
        socket.create_connection(("127.0.0.1", door.port), PATIENCE_S) as stranger,
    ):
        stranger.sendall(GREETING + LARGE)
        with pytest.raises(ConnectionError):
            stranger.sendall(bytes(199 * MIB))
        door.wait_for("handshakes_closed")
    (line,) = [r.getMessage() for r in caplog.records]
    assert line.startswith("peer 127.0.0.1 refused: it sent more than 65536 bytes in the handshake")
    assert friend_is_heard(door)


def test_silent_strangers_take_a_bounded_number_of_connections(door, monkeypatch):
    monkeypatch.setattr(handshakes, "MAX_HANDSHAKES", 20)
    silent = [socket.create_connection(("127.0.0.1", door.port), PATIENCE_S) for _ in range(30)]
    door.wait_for("handshakes_closed", 10)
    assert friend_is_heard(door)
    assert door.counts["admitted"] == 1
    for stranger in silent[:10]:  # the oldest
        while stranger.recv(64):
            pass
    for stranger in silent:
        stranger.close()


def test_a_friend_sends_much_at_once(door):
    """What it sends after the handshake is not taken for a part of it."""
    dealer = door.knock(FRIEND)
    for _ in range(40):
        dealer.send(bytes(MIB))
    door.router.recv_multipart()
    for _ in range(40):
        assert door.router.poll(PATIENCE_S * 1e3)
        door.router.recv_multipart()
    assert door.counts["handshakes_closed"] == 0


def test_a_friend_keeps_its_connection_while_strangers_flood(door, monkeypatch):
    monkeypatch.setattr(handshakes, "MAX_HANDSHAKES", 5)
    friend = door.knock(FRIEND)
    assert door.router.poll(PATIENCE_S * 1e3)
    door.router.recv_multipart()
    for _ in range(30):
        socket.create_connection(("127.0.0.1", door.port), PATIENCE_S).close()
    friend.send(b"again")
    assert door.router.poll(PATIENCE_S * 1e3)
    assert door.router.recv_multipart()[1:] == [b"again"]
    assert door.counts["admitted"] == 1


@pytest.mark.parametrize("encrypted", [True, False])
def test_without_descriptors_new_connections_are_refused_and_logged(encrypted, monkeypatch, caplog):
    door = Door(encrypted=encrypted)
    keys = FRIEND if encrypted else None
    door.knock(keys)
    assert door.router.poll(PATIENCE_S * 1e3)
    monkeypatch.setattr(authenticator, "is_reserved", lambda _: True)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            # the reset may come before the connection is said to be made, or while it is read
            with (
                contextlib.suppress(ConnectionError),
                socket.create_connection(("127.0.0.1", door.port), PATIENCE_S) as late,
            ):
                while late.recv(64):
                    pass
    door.wait_for("connections_refused", 3)
    until(lambda: any("LimitNOFILE" in r.getMessage() for r in caplog.records))
    assert len([r for r in caplog.records if "LimitNOFILE" in r.getMessage()]) == 1
    door.close()
