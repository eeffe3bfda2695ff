"""Latency of a light client beside a greedy one, with fair queueing and first come, first served.

    python -m benchmarks.agents.clients [--json] [--rounds N]

A light client asks for one row and waits for the answer before it asks again; a greedy one keeps
many requests in flight, of many rows in one setting and of one row in the other. The contenders
are two agents in separate processes, asked alternately: one uses fair queueing, the other serves
requests in the order of arrival. Both clients have their own socket in one process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import numpy as np
import zmq

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.wire.protocol import Apply, Failure, Result, decode, encode
from tests.bundles import shape_of, write_bundle

EXPERT = (768, 2048)
#: Setting -> rows of a greedy request, requests in flight.
GREEDY = {"64 rows, 32 in flight": (64, 32), "1 row, 100 in flight": (1, 100)}
WARM_UP = 5
ALONE, TURNS, FIRST = "none", "in turns", "first come first"
SERVE = "--first-come-first"


class Asker:
    """One client's socket."""

    def __init__(self, context: zmq.Context, endpoint: str, rows: int) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.rcvtimeo = 60_000
        self.socket.connect(endpoint)
        hidden = np.random.default_rng(rows).standard_normal((rows, EXPERT[0])).astype(np.float32)
        pairs = np.stack([np.arange(rows), np.zeros(rows)], 1).astype(np.int32)
        weights = np.ones(rows, np.float32)
        self.request = Apply(id=0, layer=0, hidden=hidden, pairs=pairs, weights=weights)
        self.rows = rows
        self.next_id = 0

    def send(self) -> None:
        self.next_id += 1
        self.request = msgspec.structs.replace(self.request, id=self.next_id)
        self.socket.send_multipart(encode(self.request))

    def receive(self) -> bool:
        """Whether the next answer is a result, not "busy"."""
        reply = decode(self.socket.recv_multipart())
        if not isinstance(reply, Result | Failure):
            raise TypeError(f"unexpected answer {reply}")
        return isinstance(reply, Result)


class Greedy:
    """Keeps requests in flight on a thread of its own until it is closed."""

    def __init__(self, endpoint: str, rows: int, in_flight: int) -> None:
        self.rows_done = self.refused = 0
        self.ended = threading.Event()
        self.asker = Asker(zmq.Context.instance(), endpoint, rows)
        self.in_flight = in_flight
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        for _ in range(self.in_flight):
            self.asker.send()
        left = self.in_flight
        while left:
            if self.asker.receive():
                self.rows_done += self.asker.rows
            else:
                self.refused += 1
            left -= 1
            if not self.ended.is_set():
                self.asker.send()
                left += 1

    def close(self) -> None:
        self.ended.set()
        self.thread.join()
        self.asker.socket.close()


def latencies(endpoint: str, seconds: float) -> list[float]:
    """Round trips of the light client, s."""
    asker = Asker(zmq.Context.instance(), endpoint, 1)
    times: list[float] = []
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s or len(times) < WARM_UP + 3:
        start_s = time.perf_counter()
        asker.send()
        if not asker.receive():
            raise RuntimeError("the light client was refused")
        times.append(time.perf_counter() - start_s)
    asker.socket.close()
    return times[WARM_UP:]


def beside(endpoint: str, rows: int, in_flight: int, seconds: float) -> tuple[list[float], float]:
    """Round trips of the light client beside a greedy one, s, and the greedy one's rows/s."""
    greedy = Greedy(endpoint, rows, in_flight)
    try:
        latencies(endpoint, 0.2)
        before, start_s = greedy.rows_done, time.perf_counter()
        times = latencies(endpoint, seconds)
        rate = (greedy.rows_done - before) / (time.perf_counter() - start_s)
    finally:
        greedy.close()
    return times, rate


def first_come_first(arguments: list[str]) -> int:
    """Run an agent that takes all waiting requests in the order of arrival, as one batch."""
    from siftmoe.agent.process import command
    from siftmoe.agent.service import backlog
    from siftmoe.agent.serving import server

    class Together(backlog.Backlog):
        def _take(self):
            return sorted(super()._take(), key=lambda job: job.arrived_s)

    backlog.TURN_PAIRS = 1 << 62
    server.Backlog = Together
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return command.run(parser.parse_args(arguments))


@contextmanager
def agent(config: AgentConfig, *program: str):
    """Run an agent; gives its address."""
    command = [sys.executable, "-m", *program, "--json", *config.arguments()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        yield json.loads(process.stdout.readline())["endpoint"]
        process.terminate()


def measure(root: Path, *, rounds: int, seconds: float) -> dict:
    """Return contender -> setting -> latencies (s) of the light client, rates of the greedy one."""
    hidden, inner = EXPERT
    shape = shape_of(num_layers=1, num_experts=1, hidden_size=hidden, intermediate_size=inner)
    bundle = write_bundle(root / "bundle", shape)
    config = AgentConfig(bundle=str(bundle), provider="cpu", threads=1)
    with ExitStack() as stack:
        endpoints = {
            TURNS: stack.enter_context(agent(config, "siftmoe.agent")),
            FIRST: stack.enter_context(agent(config, "benchmarks.agents.clients", SERVE)),
        }
        found: dict = {who: {ALONE: [], **{name: [] for name in GREEDY}} for who in endpoints}
        rates: dict = {who: {name: [] for name in GREEDY} for who in endpoints}
        for endpoint in endpoints.values():
            latencies(endpoint, 0.5)
        for _ in range(rounds):
            for who, endpoint in endpoints.items():
                found[who][ALONE] += latencies(endpoint, seconds / 2)
            for name, (rows, in_flight) in GREEDY.items():
                for who, endpoint in endpoints.items():
                    times, rate = beside(endpoint, rows, in_flight, seconds)
                    found[who][name] += times
                    rates[who][name].append(rate)
    return {
        who: {
            name: {
                "p50_ms": float(np.median(times) * 1e3),
                "p99_ms": float(np.percentile(times, 99) * 1e3),
                "count": len(times),
                "greedy_rows_per_s": float(np.median(rates[who][name])) if name in GREEDY else 0.0,
            }
            for name, times in settings.items()
        }
        for who, settings in found.items()
    }


def report(found: dict) -> list[str]:
    lines = [
        "| greedy client | light client waits, ms: median (99 %) | | greedy client's rows/s | |",
        "|---|---:|---:|---:|---:|",
        f"| | {TURNS} | {FIRST} | {TURNS} | {FIRST} |",
    ]
    for name in (ALONE, *GREEDY):
        cells = [found[who][name] for who in (TURNS, FIRST)]
        waits = [f"{cell['p50_ms']:.2f} ({cell['p99_ms']:.2f})" for cell in cells]
        rates = [f"{cell['greedy_rows_per_s']:,.0f}" if name in GREEDY else "" for cell in cells]
        lines.append(f"| {name} | {' | '.join(waits + rates)} |")
    return lines


def main() -> int:
    if SERVE in sys.argv[1:2]:
        return first_come_first(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement (1.5)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), rounds=args.rounds, seconds=args.seconds)
    print(json.dumps(found) if args.json else "\n".join(report(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
