"""Requests, wrong ones and foreign bytes, answered by an agent in a process of its own."""

import socket

import numpy as np
import psutil
import pytest
from agent_process import (
    SHAPE,
    agent_on,
    ask,
    assert_serves,
    client,
    request,
    wanted,
)
from bundles import write_bundle

from siftmoe.agent.errors import ErrorCode
from siftmoe.agent.wire import protocol
from siftmoe.agent.wire.bounds import frame_limit
from siftmoe.models.bundle.manifest import Manifest

BURST = protocol.Burst(
    carrier_hz=2.4e9, sample_rate_hz=2e6, tx_attenuation_db=10.0, rx_gain_db=30.0
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle") / "plain", SHAPE)


@pytest.fixture(scope="module")
def agent(folder):
    with agent_on(folder, name="board", experts="0:*,1:1") as agent:
        yield agent


def test_it_says_what_it_is(agent, folder):
    model_hash = Manifest.load(folder).model_hash
    residents = ((0, 0), (0, 1), (0, 2), (1, 1))
    with client(agent.endpoint) as dealer:
        reply = ask(dealer, protocol.Hello(id=2**64 - 1))
    assert (reply.id, reply.name, reply.model_hash) == (2**64 - 1, "board", model_hash)
    assert reply.residents == residents
    assert reply.provider == "CPUExecutionProvider"
    assert reply.hidden_size == 16
    assert agent.started["residents"] == [list(pair) for pair in residents]
    assert agent.started["memory_bytes"] == reply.memory_bytes


def test_it_computes_what_numpy_computes(agent):
    with client(agent.endpoint) as dealer:
        for pairs in ([(0, 0)], [(0, 0), (1, 2), (0, 1)], [(row, 1) for row in range(300)]):
            message = request(len(pairs), pairs, rows=300)
            reply = ask(dealer, message)
            np.testing.assert_allclose(reply.output, wanted(message), atol=1e-5)
        message = request(9, [(0, 1)], layer=1)
        np.testing.assert_allclose(ask(dealer, message).output, wanted(message), atol=1e-5)


def test_it_counts(agent):
    with client(agent.endpoint) as dealer:
        before = ask(dealer, protocol.Stats(id=1)).counters
        ask(dealer, request(2, rows=5))
        after = ask(dealer, protocol.Stats(id=3)).counters
    assert after["served"] - before.get("served", 0) == 1
    assert after["rows"] - before.get("rows", 0) == 5
    assert after["memory_bytes"] > 1e6


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        (request(1, [(0, 0)], layer=1), ErrorCode.EXPERT_NOT_RESIDENT, "expert 0 of layer 1"),
        (request(1, width=17), ErrorCode.SHAPE_MISMATCH, "17, the model served has 16"),
        (request(1, deadline_s=0.0), ErrorCode.DEADLINE_EXCEEDED, "deadline was 0.0 ms"),
        (request(1, [(2, 0)]), ErrorCode.PROTOCOL, "0 <= row < 2"),
        (
            protocol.Sound(id=1, role="listen", burst=BURST),
            ErrorCode.NOT_SUPPORTED,
            "no radio",
        ),
    ],
)
def test_what_cannot_be_served_is_answered(agent, message, code, text):
    with client(agent.endpoint) as dealer:
        reply = ask(dealer, message)
    assert (reply.id, reply.code) == (1, code)
    assert text in reply.message
    assert_serves(agent.endpoint)


def test_a_wrong_shape_on_the_wire_is_answered(agent):
    frames = protocol.encode(request(5))
    with client(agent.endpoint) as dealer:
        dealer.send_multipart([frames[0], frames[1][:-4], *frames[2:]])
        reply = protocol.decode(dealer.recv_multipart())
    assert (reply.id, reply.code) == (5, ErrorCode.PROTOCOL)
    assert "the frame has 124" in reply.message
    assert_serves(agent.endpoint)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: agent\r\n\r\n",
        b"\xff" * 4096,
        # ZeroMQ's greeting, then a frame that claims 2**62 bytes
        b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48) + b"\x02" + b"\x40" + bytes(7),
        b"",
    ],
)
def test_foreign_bytes_on_the_port_change_nothing(agent, sent):
    host, port = agent.endpoint.removeprefix("tcp://").split(":")
    for _ in range(3):
        with socket.create_connection((host, int(port))) as foreign:
            foreign.sendall(sent)
    assert_serves(agent.endpoint)


@pytest.mark.parametrize("size", [frame_limit(16) + 1, protocol.MAX_FRAME_BYTES + 1])
def test_a_frame_beyond_the_limit_is_not_received(agent, size):
    """The connection is closed; the frame's memory is never allocated."""
    before = psutil.Process(agent.process.pid).memory_info().rss
    with client(agent.endpoint) as dealer:
        dealer.send(bytes(size))
        assert not dealer.poll(300)
    assert psutil.Process(agent.process.pid).memory_info().rss - before < 64 << 20
    assert_serves(agent.endpoint)
