"""End-to-end cost of CURVE: the round trip of one expert layer with keys and without.

    python -m benchmarks.agents.encryption [--json] [--rounds N]

Two agents with the same expert, one with keys and one without, are each asked by a coordinator's
client. They take turns round by round, and the 10th percentile is compared. Target: at most 1.15
times for up to 16 tokens. Also: the time of a new connection until its hello is answered.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import launch
from siftmoe.agent.security.keys import KeyPair
from siftmoe.agent.wire.protocol import Apply
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.client.security import ClientSecurity
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.models.bundle.manifest import Manifest
from tests.bundles import shape_of, write_bundle

HIDDEN_SIZE, INNER = 768, 2048
TOKENS = (1, 16, 256)
TARGET = 1.15
PER_ROUND = 20
CONNECTIONS = 30


def agents(stack: ExitStack, root: Path):
    """Start both agents; yields a function for each that opens a client."""
    shape = shape_of(num_layers=1, num_experts=1, hidden_size=HIDDEN_SIZE, intermediate_size=INNER)
    bundle = write_bundle(root / "bundle", shape)
    board, mine = KeyPair.generate(), KeyPair.generate()
    board.save(root / "board.key")
    (root / "allowed").write_text(f"{mine.public} coordinator\n")
    keys = {"key": str(root / "board.key"), "allow": str(root / "allowed")}
    opened = {}
    for name, options in (("plain", {}), ("curve", keys)):
        config = AgentConfig(bundle=str(bundle), provider="cpu", threads=1, idle_s=0.0, **options)
        agent = launch(config)
        stack.callback(agent.stop)
        entry = AgentEntry(name=name, address=agent.endpoint, key=board.public if options else None)
        opened[name] = opener(entry, shape, Manifest.load(bundle).model_hash, mine)
    return opened


def opener(entry: AgentEntry, shape, model_hash: str, mine: KeyPair):
    def connect() -> Client:
        fleet = Fleet([entry], shape=shape, model_hash=model_hash)
        client = Client(fleet, security=ClientSecurity(keys=mine))
        client.connect(timeout_s=20.0)
        return client

    return connect


def round_trip_s(client: Client, hidden: np.ndarray) -> float:
    rows = np.arange(len(hidden), dtype=np.int32)
    request = Apply(
        id=client.next_id(),
        layer=0,
        hidden=hidden,
        pairs=np.stack([rows, np.zeros_like(rows)], 1),
        weights=np.ones(len(hidden), np.float32),
    )
    start_s = time.perf_counter()
    client.exchange({0: request}, deadline_s=20.0).require()
    return time.perf_counter() - start_s


def connection_s(connect) -> float:
    start_s = time.perf_counter()
    client = connect()
    took_s = time.perf_counter() - start_s
    client.close()
    return took_s


def measure(*, rounds: int) -> dict:
    rng = np.random.default_rng(0)
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        opened = agents(stack, root)
        clients = {name: stack.enter_context(connect()) for name, connect in opened.items()}
        order = deque(clients.items())
        found = {}
        for tokens in TOKENS:
            hidden = rng.standard_normal((tokens, HIDDEN_SIZE), np.float32)
            times = {name: [] for name in clients}
            for _ in range(rounds):
                order.rotate(1)
                for name, client in order:
                    round_trip_s(client, hidden)  # its weights are in the cache
                    times[name] += [round_trip_s(client, hidden) for _ in range(PER_ROUND)]
            found[tokens] = {name: float(np.percentile(t, 10)) for name, t in times.items()}
        connecting = {
            name: float(np.median([connection_s(connect) for _ in range(CONNECTIONS)]))
            for name, connect in opened.items()
        }
    return {"round_trip_s": found, "connection_s": connecting}


def report(found: dict) -> list[str]:
    lines = ["| tokens | plain µs | CURVE µs | ratio |", "|---|---|---|---|"]
    for tokens, times in found["round_trip_s"].items():
        ratio = times["curve"] / times["plain"]
        target = f" (target {TARGET})" if tokens <= 16 else ""
        lines.append(
            f"| {tokens} | {times['plain'] * 1e6:.0f} | {times['curve'] * 1e6:.0f} | "
            f"{ratio:.2f}{target} |"
        )
    took = found["connection_s"]
    lines += [
        "",
        f"A new connection until its hello is answered, median of {CONNECTIONS}: "
        f"{took['plain'] * 1e3:.1f} ms without keys, {took['curve'] * 1e3:.1f} ms with.",
    ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=60)
    args = parser.parse_args()
    found = measure(rounds=args.rounds)
    print(json.dumps(found) if args.json else "\n".join(report(found)))


if __name__ == "__main__":
    main()
