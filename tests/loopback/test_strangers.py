"""Foreign connections to an agent's port: a real agent process, encrypted and not.

Beside them a client that belongs there is served all the time; in the end nothing is left of them.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import time
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from bundles import reference, shape_of, write_bundle

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import launch
from siftmoe.agent.security.keys import KeyPair
from siftmoe.agent.wire.protocol import Apply, Result, Stats, StatsReply
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.client.security import ClientSecurity
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.models.bundle.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from siftmoe.agent.process.launch import LaunchedAgent

SHAPE = shape_of()
PATIENCE_S = 30.0
BOARD, ME = KeyPair.generate(), KeyPair.generate()
#: The greeting of ZMTP 3.1 without a mechanism.
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48)
STRANGE = {
    "an HTTP request": b"GET / HTTP/1.1\r\nHost: agent\r\n\r\n",
    "a TLS hello": bytes.fromhex("16030100a5010000a10303") + bytes(150),
    "an SSH banner": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "ZMTP 1": b"\x05\x00same\x03\x00hi",
    "ZMTP 2": b"\xff" + bytes(8) + b"\x7f\x01\x05\x00\x00",
    "ZMTP 3 that breaks off": GREETING[:30],
    "a frame of 2^62 bytes": GREETING + b"\x02\x40" + bytes(7),
    "noise": np.random.default_rng(0).bytes(4096),
}


class Bench:
    """An agent and an admitted client."""

    def __init__(self, agent: LaunchedAgent, client: Client) -> None:
        self.agent, self.client = agent, client
        self.process = psutil.Process(agent.process.pid)
        host, _, port = agent.endpoint.removeprefix("tcp://").rpartition(":")
        self.address = (host, int(port))

    def knock(self) -> socket.socket:
        return socket.create_connection(self.address, PATIENCE_S)

    def serves(self) -> None:
        """Check that the client is served over its first connection."""
        hidden = np.random.default_rng(1).standard_normal((2, SHAPE.hidden_size))
        pairs = np.array([(0, 0), (1, 2)], dtype=np.int32)
        request = Apply(
            id=self.client.next_id(),
            layer=0,
            hidden=hidden.astype(np.float32),
            pairs=pairs,
            weights=np.ones(2, dtype=np.float32),
        )
        reply = self.client.exchange({0: request}, deadline_s=PATIENCE_S).require()[0]
        assert isinstance(reply, Result)
        wanted = [reference(SHAPE, 0, e, hidden[row : row + 1])[0] for row, e in pairs.tolist()]
        np.testing.assert_allclose(reply.output, np.array(wanted), atol=1e-4)

    def counters(self) -> dict[str, float]:
        stats = Stats(id=self.client.next_id())
        reply = self.client.exchange({0: stats}, deadline_s=PATIENCE_S).require()[0]
        assert isinstance(reply, StatsReply)
        return dict(reply.counters)


@pytest.fixture(scope="module", params=["plain", "encrypted"])
def bench(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[Bench]:
    folder: Path = tmp_path_factory.mktemp("strangers")
    bundle = write_bundle(folder / "bundle", SHAPE)
    options = {"bundle": str(bundle), "threads": 1, "idle_s": 0.0}
    encrypted = request.param == "encrypted"
    if encrypted:
        BOARD.save(folder / "board.key")
        (folder / "allowed").write_text(f"{ME.public} coordinator\n")
        options |= {"key": str(folder / "board.key"), "allow": str(folder / "allowed")}
    agent = launch(AgentConfig.from_options(options))
    key = BOARD.public if encrypted else None
    entry = AgentEntry(name="board", address=agent.endpoint, key=key)
    fleet = Fleet([entry], shape=SHAPE, model_hash=Manifest.load(bundle).model_hash)
    security = ClientSecurity(keys=ME) if encrypted else None
    with Client(fleet, security=security) as client:
        client.connect(timeout_s=PATIENCE_S)
        yield Bench(agent, client)
        # A connection in its handshake does not keep the agent from ending in order.
        with contextlib.ExitStack() as held:
            for said in (b"", STRANGE["ZMTP 1"], GREETING[:30]):
                held.enter_context(socket.create_connection(Bench(agent, client).address)).sendall(
                    said
                )
            agent.process.send_signal(signal.SIGTERM)
            assert agent.process.wait(PATIENCE_S) == 0
    agent.stop()


def until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


@pytest.mark.parametrize("said", STRANGE.values(), ids=STRANGE)
def test_what_is_not_for_it_changes_nothing(bench: Bench, said: bytes) -> None:
    before, greeted = bench.counters(), bench.client.fleet[0].since_s
    with bench.knock() as first, bench.knock() as second:
        for stranger in (first, second):
            stranger.sendall(said)
        bench.serves()
    bench.serves()
    until(lambda: bench.counters()["connections"] >= before["connections"] + 2)
    after = bench.counters()
    assert after["served"] == before.get("served", 0.0) + 2
    for name in ("failed", "refused", "answered_internal"):
        assert after.get(name, 0.0) == before.get(name, 0.0)
    # The client's own connection was never lost.
    assert (bench.client.fleet[0].state, bench.client.fleet[0].since_s) == (
        AgentState.READY,
        greeted,
    )


def test_a_port_scan_leaves_nothing_behind(bench: Bench) -> None:
    """Connections that are closed, reset, and left open without sending anything."""
    files = bench.process.num_fds()
    half_open = [bench.knock() for _ in range(50)]
    for n in range(200):
        with bench.knock() as scan:
            if n % 2:  # reset instead of closed
                scan.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    bench.serves()
    until(lambda: bench.counters()["connections"] >= 250)
    for scan in half_open:
        scan.close()
    until(lambda: bench.process.num_fds() <= files)
    bench.serves()
