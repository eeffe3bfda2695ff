"""Two coordinators on one agent, each a process of its own: turns, refusals, memory."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zmq
from bundles import reference, shape_of, write_bundle

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import launch
from siftmoe.agent.wire.protocol import Apply, Result, Stats, StatsReply, decode, encode
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.fleet.agents import Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from siftmoe.agent.process.launch import LaunchedAgent
    from siftmoe.models.shape import ModelShape

SHAPE = shape_of(num_layers=1, num_experts=1, hidden_size=256, intermediate_size=64)
#: A computation of 64 rows takes longer than a client needs between two messages.
SLOW = shape_of(num_layers=1, num_experts=1, hidden_size=256, intermediate_size=8192)
PATIENCE_S = 60.0
MIB = 1 << 20

#: Keeps COUNT requests of ROWS rows in flight until its standard input ends; then prints counts.
GREEDY = """
import json, select, sys, time
import numpy as np, zmq
from siftmoe.agent.wire.protocol import Apply, Result, decode, encode

address, count, rows, width, read = sys.argv[1], *map(int, sys.argv[2:])
dealer = zmq.Context().socket(zmq.DEALER)
dealer.linger, dealer.sndhwm = 0, 0
dealer.connect(address)
hidden = np.ones((rows, width), np.float32)
pairs = np.stack([np.arange(rows), np.zeros(rows)], 1).astype(np.int32)
frames = encode(Apply(id=1, layer=0, hidden=hidden, pairs=pairs, weights=np.ones(rows, np.float32)))
served, refused, waited = 0, 0, [0.0]
for _ in range(count):
    dealer.send_multipart(frames)
print("sent", flush=True)
while read and not select.select([sys.stdin], [], [], 0)[0]:
    if dealer.poll(100):
        reply = decode(dealer.recv_multipart())
        if isinstance(reply, Result):
            served += 1
            waited.append(reply.queue_s)
        else:
            refused += 1
            time.sleep(0.01)
        dealer.send_multipart(frames)
if not read:
    sys.stdin.read()
got = {"served": served, "refused": refused, "waited_s": float(np.median(waited))}
print(json.dumps(got), flush=True)
"""


@contextmanager
def serving(folder: Path, shape: ModelShape = SHAPE) -> Iterator[LaunchedAgent]:
    bundle = write_bundle(folder / "bundle", shape)
    launched = launch(AgentConfig(bundle=str(bundle), threads=1, queue_limit=64, idle_s=0.0))
    try:
        yield launched
    finally:
        launched.stop()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[LaunchedAgent]:
    with serving(tmp_path) as launched:
        yield launched


@contextmanager
def greedy(
    agent: LaunchedAgent, *, count: int, rows: int, read: bool = True
) -> Iterator[dict[str, float]]:
    """Run a greedy client; its counts are available after the block."""
    numbers = [str(number) for number in (count, rows, SHAPE.hidden_size, int(read))]
    command = [sys.executable, "-c", GREEDY, agent.endpoint, *numbers]
    got: dict[str, float] = {}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "sent\n"
            yield got
            out, _ = process.communicate("\n", timeout=PATIENCE_S)
            got |= json.loads(out)
        finally:
            process.kill()


@contextmanager
def coordinator(agent: LaunchedAgent) -> Iterator[Client]:
    entry = AgentEntry(name="agent", address=agent.endpoint)
    with Client(Fleet([entry], shape=SHAPE, model_hash=agent.started["model_hash"])) as client:
        client.connect(timeout_s=PATIENCE_S)
        yield client


def ask(client: Client, hidden: np.ndarray[Any, np.dtype[np.float32]]) -> Any:
    rows = len(hidden)
    pairs = np.stack([np.arange(rows), np.zeros(rows)], 1).astype(np.int32)
    weights = np.ones(rows, np.float32)
    request = Apply(id=client.next_id(), layer=0, hidden=hidden, pairs=pairs, weights=weights)
    return client.exchange({0: request}, deadline_s=PATIENCE_S).require()[0]


def counters(client: Client) -> dict[str, float]:
    reply = client.exchange({0: Stats(id=client.next_id())}, deadline_s=PATIENCE_S).require()[0]
    assert isinstance(reply, StatsReply)
    return reply.counters


def test_a_greedy_client_does_not_starve_another(tmp_path: Path) -> None:
    """By the agent's own clock: 31 of a client's requests wait for each other, one for a turn.

    Served in the order of arrival both would wait the same. How fast the machine is cancels.
    """
    rng = np.random.default_rng(3)
    waited_s = []
    with (
        serving(tmp_path, SLOW) as agent,
        greedy(agent, count=50, rows=64) as got,
        coordinator(agent) as client,
    ):
        while counters(client).get("answered_busy", 0.0) == 0.0:
            pass
        for _ in range(12):
            hidden = rng.standard_normal((1, SHAPE.hidden_size)).astype(np.float32)
            reply = ask(client, hidden)
            wanted = reference(SLOW, 0, 0, hidden.astype(np.float64))
            np.testing.assert_allclose(reply.output, wanted, atol=1e-4)
            waited_s.append(reply.queue_s)
        assert counters(client)["queued"] > 0
    assert got["served"] > 32
    assert got["refused"] > 0  # it asked for more than its share of the queue
    assert np.median(waited_s) < got["waited_s"] / 2


def test_both_clients_get_right_answers_and_none_is_lost(agent: LaunchedAgent) -> None:
    rng = np.random.default_rng(4)
    with greedy(agent, count=20, rows=3) as got, coordinator(agent) as client:
        for number in range(60):
            hidden = rng.standard_normal((1 + number % 7, SHAPE.hidden_size)).astype(np.float32)
            reply = ask(client, hidden)
            wanted = reference(SHAPE, 0, 0, hidden.astype(np.float64))
            np.testing.assert_allclose(reply.output, wanted, atol=1e-4)
    assert got["refused"] == 0
    assert got["served"] > 0


def test_memory_is_bounded_whatever_is_sent(agent: LaunchedAgent) -> None:
    """A client sends 1 GiB of requests and reads nothing; another is served, and memory is flat."""
    with coordinator(agent) as client:
        ask(client, np.ones((1_024, SHAPE.hidden_size), np.float32))
        before = counters(client)["memory_bytes"]
        with greedy(agent, count=1_024, rows=1_024, read=False):
            most = 0.0
            for _ in range(50):
                ask(client, np.ones((1, SHAPE.hidden_size), np.float32))
                most = max(most, counters(client)["memory_bytes"])
        told = counters(client)
    assert told["answered_busy"] > 0
    assert most - before < 300 * MIB


def test_who_does_not_read_is_given_no_more(agent: LaunchedAgent) -> None:
    """Each request is computed before the next is sent, so only the replies pile up."""
    rows = 16_384
    hidden = np.ones((rows, SHAPE.hidden_size), np.float32)  # 16 MiB, and so is the reply
    pairs = np.array([[0, 0]], np.int32)
    request = Apply(id=1, layer=0, hidden=hidden, pairs=pairs, weights=np.ones(1, np.float32))
    context = zmq.Context()
    with coordinator(agent) as client, context.socket(zmq.DEALER) as silent:
        ask(client, np.ones((1, SHAPE.hidden_size), np.float32))
        before = counters(client)["memory_bytes"]
        silent.linger, silent.rcvhwm, silent.rcvtimeo = 0, 1, int(PATIENCE_S * 1e3)
        # It answers heartbeats, else the agent would soon close the connection.
        silent.heartbeat_ivl, silent.heartbeat_timeout = 80, 600_000
        silent.connect(agent.endpoint)
        for number in range(24):
            silent.send_multipart(encode(request))
            while (
                sum(counters(client).get(k, 0.0) for k in ("served", "answered_busy")) < number + 2
            ):
                pass
        told = counters(client)
        assert told["answered_busy"] > 0
        assert told["memory_bytes"] - before < 300 * MIB
        ask(client, np.ones((1, SHAPE.hidden_size), np.float32))
        served = told["served"]
        replies = [decode(silent.recv_multipart()) for _ in range(24)]
        assert sum(isinstance(reply, Result) for reply in replies) == served - 1
        silent.send_multipart(encode(request))
        assert isinstance(decode(silent.recv_multipart()), Result)
    context.term()


def test_a_client_that_goes_away_leaves_nothing_behind(agent: LaunchedAgent) -> None:
    with greedy(agent, count=200, rows=64), coordinator(agent) as client:
        ask(client, np.ones((1, SHAPE.hidden_size), np.float32))
    with coordinator(agent) as client:
        while counters(client)["queued"]:
            pass
        told = counters(client)
        assert (told["queued_bytes"], told["queued_clients"]) == (0.0, 0.0)
        ask(client, np.ones((1, SHAPE.hidden_size), np.float32))
