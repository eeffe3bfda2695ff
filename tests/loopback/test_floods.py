"""Floods of messages and of connections: the agent serves on."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING

import pytest
import zmq
from agent_process import PATIENCE_S, SHAPE, agent_on, ask, assert_serves, client
from bundles import write_bundle
from limits import descriptor_limit

from siftmoe.agent.security.descriptors import RESERVED
from siftmoe.agent.security.keys import KeyPair
from siftmoe.agent.wire import protocol

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 4
#: Far more messages than wait in the agent's socket, even where it receives while they are sent.
FLOOD_S = 0.15
#: Two heartbeats of an agent that would send them.
HEARTBEATS_S = 0.2
BOARD, ME = KeyPair.generate(), KeyPair.generate()


def flood_and_close(dealer: zmq.Socket[bytes], message: bytes) -> None:
    ask(dealer, protocol.Hello(id=1))
    end_s = time.monotonic() + FLOOD_S
    while time.monotonic() < end_s:
        try:
            dealer.send(message, zmq.NOBLOCK)
        except zmq.Again:
            continue


@pytest.mark.parametrize(
    "message", [protocol.encode(protocol.Stats(id=2))[0], b"\xff"], ids=["stats", "junk"]
)
def test_a_client_that_floods_and_closes_ends_no_agent(tmp_path: Path, message: bytes) -> None:
    with agent_on(write_bundle(tmp_path / "bundle", SHAPE)) as agent:
        for _ in range(ROUNDS):
            with client(agent.endpoint) as dealer:
                flood_and_close(dealer, message)
            time.sleep(HEARTBEATS_S)
            assert agent.process.poll() is None
        assert_serves(agent.endpoint)


def test_without_descriptors_stats_are_still_answered(tmp_path: Path) -> None:
    with agent_on(write_bundle(tmp_path / "bundle", SHAPE)) as agent:
        pid = agent.process.pid
        limit = len(os.listdir(f"/proc/{pid}/fd")) + RESERVED + 10
        with client(agent.endpoint) as dealer, descriptor_limit(limit, pid=pid):
            ask(dealer, protocol.Hello(id=1))
            host, _, port = agent.endpoint.removeprefix("tcp://").partition(":")
            with contextlib.ExitStack() as strangers:
                for _ in range(2 * RESERVED):
                    stranger = socket.create_connection((host, int(port)), PATIENCE_S)
                    strangers.enter_context(stranger)
                end_s = time.monotonic() + PATIENCE_S
                counters = ask(dealer, protocol.Stats(id=2)).counters
                # Reading the memory takes a descriptor, which a stranger may hold for a moment.
                while (
                    counters.get("connections_refused", 0.0) < RESERVED
                    or not counters.get("memory_bytes", 0.0) > 0.0
                ):
                    assert time.monotonic() < end_s
                    counters = ask(dealer, protocol.Stats(id=2)).counters
        assert_serves(agent.endpoint)


def test_an_admitted_key_that_floods_and_closes_ends_no_agent(tmp_path: Path) -> None:
    BOARD.save(tmp_path / "board.key")
    (tmp_path / "allowed").write_text(f"{ME.public} coordinator\n")
    keys = {"key": str(tmp_path / "board.key"), "allow": str(tmp_path / "allowed")}
    with agent_on(write_bundle(tmp_path / "bundle", SHAPE), **keys) as agent:
        for _ in range(ROUNDS):
            with client(agent.endpoint, keys=ME, server_key=BOARD.public) as dealer:
                flood_and_close(dealer, b"\xff")
            time.sleep(HEARTBEATS_S)
            assert agent.process.poll() is None
        with client(agent.endpoint, keys=ME, server_key=BOARD.public) as dealer:
            assert ask(dealer, protocol.Hello(id=1)).name == "agent"
