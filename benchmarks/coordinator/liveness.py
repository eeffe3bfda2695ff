"""Time until a killed and a stopped agent are noticed in the middle of a request.

    python -m benchmarks.coordinator.liveness [--json] [--trials N]

A real agent computes; it is killed (SIGKILL) or stopped (SIGSTOP), and the time until the client
returns the error that names it is measured. Targets: 10 ms and 400 ms.

The kernel closes a killed process's connections only after it has stopped its threads and freed its
memory. A plain TCP connection beside the client's shows when this happened.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import socket
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import launch
from siftmoe.agent.wire.protocol import Apply
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.models.bundle.manifest import Manifest
from tests.bundles import shape_of, write_bundle

SHAPE = shape_of(num_layers=1, num_experts=1, hidden_size=512, intermediate_size=2048)
#: Half a second of computation. More rows add the time in which the kernel frees their memory,
#: which it does before it closes the process's connections.
ROWS = 4_096
TARGETS_MS = {"killed": 10.0, "stopped": 400.0}
SIGNALS = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}


def start(bundle: Path):
    return launch(AgentConfig(bundle=str(bundle), provider="cpu", threads=1))


class Witness(threading.Thread):
    """Records the time at which a plain connection to the agent ends."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(daemon=True)
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        self.closed_s = 0.0
        self.start()

    def run(self) -> None:
        with contextlib.suppress(ConnectionResetError):
            while self._socket.recv(64):  # ZeroMQ's greeting
                pass
        self.closed_s = time.monotonic()
        self._socket.close()


def trial(bundle: Path, how: str, rng: np.random.Generator) -> tuple[float, float, str]:
    """Milliseconds from the signal, and from the end of connections, to the error; the state."""
    agent = start(bundle)
    manifest = Manifest.load(bundle)
    entry = AgentEntry(name="a", address=agent.endpoint)
    fleet = Fleet([entry], shape=manifest.shape, model_hash=manifest.model_hash)
    struck = []
    try:
        with Client(fleet) as client:
            client.connect(timeout_s=20.0)
            witness = Witness(agent.endpoint)

            def strike() -> None:
                time.sleep(0.05 + 0.1 * rng.random())  # at any phase of the heartbeat
                struck.append(time.monotonic())
                os.kill(agent.process.pid, SIGNALS[how])

            done = client.exchange({0: request(client)}, deadline_s=60.0, meanwhile=strike)
            noticed = time.monotonic()
            if not done.failures:
                raise RuntimeError("the agent answered before it was struck; raise ROWS")
            state = fleet[0].state.value
            agent.process.kill()
            witness.join()
            return (noticed - struck[0]) * 1e3, (noticed - witness.closed_s) * 1e3, state
    finally:
        agent.process.kill()
        agent.stop()


def request(client: Client) -> Apply:
    rows = np.arange(ROWS, dtype=np.int32)
    return Apply(
        id=client.next_id(),
        layer=0,
        hidden=np.zeros((ROWS, 512), np.float32),
        pairs=np.stack((rows, np.zeros_like(rows)), axis=1),
        weights=np.ones(ROWS, np.float32),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    logging.disable()  # the results are in the table
    rng = np.random.default_rng(0)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_bundle(Path(folder) / "bundle", SHAPE)
        for how, target in TARGETS_MS.items():
            trials = [trial(bundle, how, rng) for _ in range(args.trials)]
            times = np.array([from_signal for from_signal, _, _ in trials])
            after = np.array([from_end for _, from_end, _ in trials])
            found[how] = {
                "median_ms": float(np.median(times)),
                "p90_ms": float(np.percentile(times, 90)),
                "max_ms": float(times.max()),
                "target_ms": target,
                "within_target": float((times <= target).mean()),
                "states": sorted({state for _, _, state in trials}),
            }
            if how == "killed":
                found[how]["after_close_median_ms"] = float(np.median(after))
                found[how]["after_close_max_ms"] = float(after.max())
    if args.json:
        print(json.dumps(found))
        return
    for how, figures in found.items():
        print(
            f"{how:8s} noticed after {figures['median_ms']:.1f} ms (median), "
            f"{figures['p90_ms']:.1f} (90%), {figures['max_ms']:.1f} (worst of {args.trials}); "
            f"target {figures['target_ms']:g} ms: {figures['within_target']:.0%} within; "
            f"found {', '.join(figures['states'])}"
        )
        if "after_close_median_ms" in figures:
            print(
                f"{'':8s} after the kernel closed its connections: "
                f"{figures['after_close_median_ms']:.1f} ms (median), "
                f"{figures['after_close_max_ms']:.1f} (worst)"
            )


if __name__ == "__main__":
    main()
