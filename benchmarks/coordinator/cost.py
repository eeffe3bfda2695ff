"""The coordinator's cost of a message at 8, 32 and 100 agents, and of its other parts.

    python -m benchmarks.coordinator.cost [--json] [--rounds N]

Agents that answer at once (four processes, the real protocol) replace computing ones. CPU time is
the coordinator's, per message sent or received: of the calling thread, and of the whole process
with ZeroMQ's I/O thread. Target: 12 µs. The wall time of one token to 8 agents is compared between
a client of 8 and one of 100, round by round. Target: 2.2 times. The reference is a bare ROUTER that
sends prepared frames and ignores replies; it shows the cost of the sockets on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from benchmarks.coordinator.bookkeeping import HIDDEN_SIZE, group_cost, ledger_cost
from siftmoe.agent.wire.protocol import Apply, Hello, HelloReply, Result, decode, encode
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.models.shape import ModelShape

AGENTS = (8, 32, 100)
PROCESSES = 4
FEW = 8
CPU_TARGET_US = 12.0
WALL_TARGET = 2.2
SHAPE = ModelShape(
    num_layers=1,
    num_experts=8,
    top_k=2,
    hidden_size=HIDDEN_SIZE,
    intermediate_size=8,
    activation="silu",
)


def serve(count: int, addresses: Any) -> None:
    """Answer on ``count`` sockets until killed, with the received vectors."""
    context = zmq.Context()
    poller = zmq.Poller()
    names = []
    for _ in range(count):
        router = context.socket(zmq.ROUTER)
        names.append(f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}")
        poller.register(router, zmq.POLLIN)
    addresses.put(names)
    while True:
        for router, _ in poller.poll():
            route, *frames = router.recv_multipart()
            router.send_multipart([route, *encode(answer(decode(frames)))])


def answer(message: Any) -> HelloReply | Result:
    if isinstance(message, Hello):
        return HelloReply(
            id=message.id,
            name="echo",
            version="",
            model_hash="",
            residents=((0, 0),),
            provider="none",
            hidden_size=HIDDEN_SIZE,
        )
    return Result(id=message.id, output=message.hidden, compute_s=0.0, queue_s=0.0)


def echo_agents(stack: ExitStack, count: int) -> list[str]:
    addresses: Any = multiprocessing.get_context("spawn").Queue()
    found: list[str] = []
    for part in range(PROCESSES):
        share = len(range(part, count, PROCESSES))
        process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(share, addresses), daemon=True
        )
        process.start()
        stack.callback(process.join)
        stack.callback(process.kill)
    for _ in range(PROCESSES):
        found += addresses.get(timeout=60.0)
    return found


def client_of(stack: ExitStack, addresses: list[str]) -> Client:
    agents = [AgentEntry(name=f"a{n}", address=a) for n, a in enumerate(addresses)]
    client = stack.enter_context(Client(Fleet(agents, shape=SHAPE, model_hash="")))
    client.connect(timeout_s=30.0)
    return client


def ask(client: Client, count: int) -> None:
    """One token to each of ``count`` agents."""
    requests = {
        index: Apply(
            id=client.next_id(), layer=0, hidden=HIDDEN, pairs=PAIRS, weights=WEIGHTS, deadline_s=5
        )
        for index in range(count)
    }
    client.exchange(requests, deadline_s=5.0).require()


HIDDEN = np.ones((1, HIDDEN_SIZE), np.float32)
PAIRS = np.array([[0, 0]], np.int32)
WEIGHTS = np.ones(1, np.float32)


class Bare:
    """A ROUTER with minimal work: prepared frames, ignored replies."""

    def __init__(self, stack: ExitStack, addresses: list[str]) -> None:
        context = stack.enter_context(zmq.Context())
        self.socket = stack.enter_context(context.socket(zmq.ROUTER))
        self.socket.linger = 0
        self.routes = [f"agent-{n}".encode() for n in range(len(addresses))]
        for route, address in zip(self.routes, addresses, strict=True):
            self.socket.connect_routing_id = route
            self.socket.connect(address)
        apply = Apply(id=1, layer=0, hidden=HIDDEN, pairs=PAIRS, weights=WEIGHTS)
        self.frames = [bytes(frame) for frame in encode(apply)]

    def ask(self) -> None:
        for route in self.routes:
            self.socket.send_multipart([route, *self.frames])
        for _ in self.routes:
            self.socket.recv_multipart()


def cpu_per_message(client: Client, bare: Bare, rounds: int) -> dict[str, float]:
    """Microseconds per message sent or received: medians over parts that take turns."""
    count = len(client.fleet)
    calls = {"client": lambda: ask(client, count), "bare": bare.ask}
    parts: dict[str, list[list[float]]] = {name: [] for name in calls}
    for _ in range(10):
        for name, call in calls.items():
            call()
            began = time.thread_time(), time.process_time(), time.perf_counter()
            for _ in range(max(1, rounds // 10)):
                call()
            ended = time.thread_time(), time.process_time(), time.perf_counter()
            messages = 2 * count * max(1, rounds // 10)
            took = [(b - a) / messages * 1e6 for a, b in zip(began, ended, strict=True)]
            parts[name].append(took)
    found = {}
    for name, took in parts.items():
        medians = np.median(took, axis=0).tolist()
        for of, median in zip(("thread", "process", "wall"), medians, strict=True):
            found[f"{name}_{of}_us"] = median
    return found


def few_of_many(few: Client, many: Client, rounds: int) -> dict[str, float]:
    """Wall microseconds of one token to 8 agents, from a client of 8 and from one of 100."""
    times: dict[str, list[float]] = {"of_few": [], "of_many": []}
    for _ in range(rounds):
        for name, client in (("of_few", few), ("of_many", many)):
            began = time.perf_counter()
            ask(client, FEW)
            times[name].append(time.perf_counter() - began)
    found = {name: float(np.percentile(values, 10) * 1e6) for name, values in times.items()}
    return {**found, "ratio": found["of_many"] / found["of_few"]}


def measure(rounds: int) -> dict[str, Any]:
    found: dict[str, Any] = {"cpu_per_message": {}}
    with ExitStack() as stack:
        addresses = echo_agents(stack, max(AGENTS))
        clients = {count: client_of(stack, addresses[:count]) for count in AGENTS}
        for count, client in clients.items():
            per_count = max(20, rounds * FEW // count)
            bare = Bare(stack, addresses[:count])
            found["cpu_per_message"][count] = cpu_per_message(client, bare, per_count)
        found["few_of_many_us"] = few_of_many(clients[FEW], clients[max(AGENTS)], rounds)
    found["group_us"] = {
        f"{tokens} x {slots}": group_cost(tokens, slots, HIDDEN_SIZE, rounds=300)
        for tokens, slots in ((1, 2), (64, 2))
    }
    with tempfile.TemporaryDirectory() as folder:
        found["ledger_step_us"] = ledger_cost(Path(folder), layers=4, bursts=4, rounds=300)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = measure(args.rounds)
    if args.json:
        print(json.dumps(found))
        return
    for count, us in found["cpu_per_message"].items():
        print(
            f"{count:4d} agents: {us['client_thread_us']:.1f} µs CPU per message of the calling "
            f"thread [target {CPU_TARGET_US:g}], {us['client_process_us']:.1f} with ZeroMQ's I/O "
            f"thread, {us['client_wall_us']:.1f} µs of wall time; bare ROUTER "
            f"{us['bare_thread_us']:.1f}, {us['bare_process_us']:.1f}, {us['bare_wall_us']:.1f}"
        )
    few = found["few_of_many_us"]
    print(
        f"one token to 8 agents: {few['of_few']:.0f} µs from a client of 8, {few['of_many']:.0f} "
        f"from one of 100: {few['ratio']:.2f} times [target {WALL_TARGET}]"
    )
    for size, us in found["group_us"].items():
        print(f"splitting a plan of {size} slots over 8 helpers, vectors to float16: {us:.0f} µs")
    print(f"booking a step of 4 layers and 16 bursts: {found['ledger_step_us']:.0f} µs")


if __name__ == "__main__":
    main()
