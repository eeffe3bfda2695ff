"""The ZAP authenticator on real sockets, some of them hostile."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time

import pytest
from guarded import AGENT, FRIEND, PATIENCE_S, STRANGER, Door, until

from siftmoe.agent.security.connections import address_of
from siftmoe.agent.security.keys import KeyPair
from siftmoe.agent.security.peer_log import MAX_PEERS, PeerLog

TLS_HELLO = bytes.fromhex("16030100a5010000a10303") + bytes(150)


@pytest.fixture
def door():
    door = Door()
    yield door
    door.close()


def test_who_is_on_the_list_is_heard(door):
    door.knock(FRIEND)
    assert door.router.poll(PATIENCE_S * 1e3)
    assert door.router.recv_multipart()[1:] == [b"hello"]
    door.wait_for("connections_greeted")
    assert door.counts == {"connections": 1, "admitted": 1, "connections_greeted": 1}


@pytest.mark.parametrize(
    ("keys", "server", "refused"),
    [
        (STRANGER, AGENT, 1),
        (KeyPair(FRIEND.public, STRANGER.secret), AGENT, 0),
        (FRIEND, STRANGER, 0),
        (None, AGENT, 0),
    ],
    ids=["unknown-key", "stolen-public-key", "wrong-agent-key", "no-encryption"],
)
def test_who_cannot_prove_itself_is_counted_and_not_heard(door, keys, server, refused):
    door.knock(keys, server=server)
    door.wait_for("connections")
    door.wait_for("refused_key", refused)
    assert not door.heard()
    assert door.counts["connections_greeted"] == door.counts["admitted"] == 0


def test_a_scan_a_web_request_and_a_tls_hello_change_nothing(door):
    greeting = b"\xff" + bytes(8) + b"\x7f"
    strange = [b"", b"GET / HTTP/1.1\r\n\r\n", TLS_HELLO, greeting, greeting + b"\xff" * 4096]
    for said in strange:
        door.raw(said)
    door.wait_for("connections", len(strange))
    assert not door.heard()
    assert door.counts["connections_greeted"] == 0
    door.knock(FRIEND)
    assert door.router.poll(PATIENCE_S * 1e3)


def test_without_an_authenticator_nobody_is_let_in():
    door = Door(guarded=False)
    try:
        door.knock(FRIEND)
        assert not door.heard()
    finally:
        door.close()


def test_without_keys_strange_greetings_are_counted_too():
    door = Door(encrypted=False)
    try:
        door.raw(b"GET / HTTP/1.1\r\n\r\n")
        door.wait_for("connections")
        door.knock()
        assert door.router.poll(PATIENCE_S * 1e3)
    finally:
        door.close()


def test_a_stranger_is_logged_once_with_its_public_key(door, caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            door.knock(STRANGER)
        door.wait_for("refused_key", 3)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert "127.0.0.1" in lines[0]
    assert STRANGER.public in lines[0]


@pytest.mark.parametrize(
    "said",
    [b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48)],
    ids=["nothing", "http", "plain-zmtp"],
)
def test_who_is_turned_away_in_the_greeting_is_logged_once_with_its_address(door, caplog, said):
    with caplog.at_level(logging.WARNING):
        door.knock(FRIEND)
        assert door.router.poll(PATIENCE_S * 1e3)
        for n in range(2, 6):
            with socket.create_connection(("127.0.0.1", door.port), PATIENCE_S) as stranger:
                door.wait_for("connections", n)  # its address is read before it ends
                stranger.sendall(said)
        until(lambda: caplog.records)
        door.knock(FRIEND)
        door.wait_for("connections_greeted", 2)
    [line] = [record.getMessage() for record in caplog.records]
    assert "127.0.0.1" in line
    assert "ended in the handshake: it has another key for this agent" in line


def test_a_number_that_is_no_connection_any_more_has_no_address_and_costs_nothing(tmp_path):
    """Events name descriptors, which may be closed or reused when the event is read."""
    file = os.open(tmp_path / "file", os.O_CREAT)
    unused = os.dup(file)
    os.close(unused)
    with socket.socket() as idle, contextlib.closing(os.fdopen(file)):
        before = sorted(os.listdir("/proc/self/fd"))
        assert [address_of(n) for n in (file, unused, idle.fileno())] == ["", "", ""]
        assert sorted(os.listdir("/proc/self/fd")) == before


def test_who_has_another_key_for_this_agent_is_logged(door, caplog):
    with caplog.at_level(logging.WARNING):
        door.knock(FRIEND, server=STRANGER)
        until(lambda: caplog.records)  # it tries again and again
    assert "ended in the handshake" in caplog.text


def test_complaints_of_ever_new_peers_are_bounded(caplog):
    peer_log = PeerLog(logging.getLogger("test"))
    logged = [peer_log.warn_once("k", peer=str(n), reason="r") for n in range(2 * MAX_PEERS)]
    assert sum(logged) == MAX_PEERS
    assert len(caplog.records) == MAX_PEERS + 1


class Tap:
    """Passes bytes between a client and the agent's socket, and records what the client sent."""

    def __init__(self, port):
        self.said = []
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def pass_on(self, until):
        inside = socket.create_connection(("127.0.0.1", self._port))
        self._listener.settimeout(PATIENCE_S)
        outside, _ = self._listener.accept()
        end_s = time.monotonic() + PATIENCE_S
        with inside, outside:
            for connection in (inside, outside):
                connection.settimeout(0.01)
            while not until() and time.monotonic() < end_s:
                for source, sink in ((outside, inside), (inside, outside)):
                    with contextlib.suppress(TimeoutError):
                        piece = source.recv(65536)
                        sink.sendall(piece)
                        if source is outside:
                            self.said.append(piece)
            yield inside
        self._listener.close()


def test_what_was_recorded_cannot_be_played_again(door):
    tap = Tap(door.port)
    door.endpoint = tap.endpoint
    door.knock(FRIEND)
    for inside in tap.pass_on(until=lambda: door.router.poll(0)):
        assert door.router.recv_multipart()[1:] == [b"hello"]
        # The last piece has the encrypted message: it is repeated on the same connection.
        inside.sendall(tap.said[-1])
        assert not door.heard()
        assert ends(inside)
    door.knocking[0].close()
    # Everything is repeated on a new connection.
    door.raw(*tap.said)
    door.wait_for("connections", 2)
    assert not door.heard()
    assert door.counts["admitted"] == door.counts["connections_greeted"] == 1


@pytest.mark.parametrize(
    "forged",
    [b"\x04\x27" + bytes(39), b"\x02" + b"\x7f" + bytes(7), b"\xff" * 64],
    ids=["a command", "a frame without end", "noise"],
)
def test_forged_and_oversized_bytes_end_the_connection_and_nothing_else(door, forged):
    tap = Tap(door.port)
    real, door.endpoint = door.endpoint, tap.endpoint
    door.knock(FRIEND)
    for inside in tap.pass_on(until=lambda: door.router.poll(0)):
        assert door.router.recv_multipart()[1:] == [b"hello"]
        inside.sendall(forged)
        assert ends(inside)
    door.knocking[0].close()
    time.sleep(0.2)  # more than a heartbeat, which aborted the process once
    door.endpoint = real
    door.knock(FRIEND)
    assert door.router.poll(PATIENCE_S * 1e3)


def ends(connection):
    """Whether the other end closes the connection."""
    connection.settimeout(PATIENCE_S)
    with contextlib.suppress(ConnectionError):
        while connection.recv(4096):
            pass
    return True
