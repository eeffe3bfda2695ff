"""Latency of an agent over in-process ONNX Runtime, beside gRPC and bare ZeroMQ.

    python -m benchmarks.agents.roundtrip [--json] [--rounds N]

One process asks, one serves, one thread each. The contenders take turns in every round, so that a
busy machine slows all of them, and the 10th percentile is compared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import numpy as np
import zmq

from benchmarks.agents.peers import METHOD, OPTIONS
from siftmoe.agent.compute.providers import open_session
from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import launch
from siftmoe.agent.serving.sockets import receive
from siftmoe.agent.wire.protocol import ZERO_COPY_BYTES, Apply, Result, Vectors, decode, encode
from siftmoe.models.bundle.manifest import Manifest, expert_name
from tests.bundles import shape_of, write_bundle

EXPERTS = {"A": (768, 2048), "B": (2048, 1408)}
TOKENS = (1, 16, 256)
CLIENTS = (1, 4, 16)
TARGETS = {("A", 1): 1.45, ("A", 16): 1.25, ("A", 256): 1.10}
GRPC_TARGET = 0.55
CLIENTS_TARGET = 2.5


class Client:
    """A synchronous DEALER: a coordinator's work per message, without its bookkeeping."""

    def __init__(self, context: zmq.Context, endpoint: str) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(endpoint)
        self.next_id = 0

    def ask(self, hidden: np.ndarray, pairs: np.ndarray, weights: np.ndarray) -> None:
        self.next_id += 1
        self.send(Apply(id=self.next_id, layer=0, hidden=hidden, pairs=pairs, weights=weights))

    def send(self, request: Apply) -> None:
        frames = encode(request)
        for place, frame in enumerate(frames):
            more = zmq.SNDMORE if place < len(frames) - 1 else 0
            self.socket.send(frame, more, copy=len(frame) < ZERO_COPY_BYTES)

    def answer(self) -> Vectors:
        reply = decode(receive(self.socket, flags=0))
        if not isinstance(reply, Result) or reply.id != self.next_id:
            raise RuntimeError(f"unexpected answer {reply}")
        return reply.output


def pairs_of(tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Every row to expert 0 with weight 1."""
    rows = np.arange(tokens, dtype=np.int32)
    return np.stack([rows, np.zeros_like(rows)], 1), np.ones(tokens, np.float32)


def contenders(stack: ExitStack, root: Path, name: str):
    """Start the servers for an expert; returns {contender: hidden -> output} and the agent."""
    hidden_size, inner = EXPERTS[name]
    shape = shape_of(num_layers=1, num_experts=1, hidden_size=hidden_size, intermediate_size=inner)
    bundle = write_bundle(root / name, shape)
    path = bundle / expert_name(0, 0)
    session = open_session(path, provider="cpu", threads=1)
    agent = launch(AgentConfig(bundle=str(bundle), provider="cpu", threads=1))
    stack.callback(agent.stop)
    client = Client(zmq.Context.instance(), agent.endpoint)
    stack.callback(client.socket.close)
    port = stack.enter_context(peer("grpc", path, hidden_size))
    channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS))
    remote = channel.unary_unary(METHOD)
    port = stack.enter_context(peer("zeromq", path, hidden_size))
    bare = stack.enter_context(zmq.Context.instance().socket(zmq.DEALER))
    bare.linger = 0
    bare.connect(f"tcp://127.0.0.1:{port}")

    def in_process(hidden: np.ndarray) -> np.ndarray:
        return session.run(["output"], {"hidden": hidden})[0]

    def through_agent(hidden: np.ndarray) -> np.ndarray:
        client.ask(hidden, *pairs_of(len(hidden)))
        return client.answer()

    def through_grpc(hidden: np.ndarray) -> np.ndarray:
        return np.frombuffer(remote(hidden.tobytes()), np.float32).reshape(hidden.shape)

    def through_zeromq(hidden: np.ndarray) -> np.ndarray:
        bare.send(hidden, copy=hidden.nbytes < ZERO_COPY_BYTES)
        return np.frombuffer(bare.recv(), np.float32).reshape(hidden.shape)

    calls = {
        "in-process": in_process,
        "agent": through_agent,
        "grpc": through_grpc,
        "zeromq": through_zeromq,
    }
    return calls, agent, Manifest.load(bundle)


@contextmanager
def peer(kind: str, path: Path, hidden_size: int):
    """Run a server of agent_peers; gives its port."""
    command = [sys.executable, "-m", "benchmarks.agents.peers", kind, str(path), str(hidden_size)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        yield int(process.stdout.readline())
        process.stdin.close()


def latencies(calls, hidden: np.ndarray, *, rounds: int, per_round: int) -> dict[str, np.ndarray]:
    """Time each contender in turn, seconds; their outputs are compared first."""
    outputs = {name: call(hidden) for name, call in calls.items()}
    for name, output in outputs.items():
        np.testing.assert_allclose(output, outputs["in-process"], atol=1e-5, err_msg=name)
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = deque(calls.items())
    for _ in range(rounds):
        order.rotate(1)  # a contender after a long computation has used up its time slice
        for name, call in order:
            call(hidden)  # its weights are in the cache
            for _ in range(per_round):
                start = time.perf_counter()
                call(hidden)
                times[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in times.items()}


def rate(endpoint: str, hidden: np.ndarray, *, clients: int, seconds: float) -> float:
    """Tokens per second of clients that each wait for their one-token answer before asking."""
    context = zmq.Context.instance()
    asking = {c.socket: c for c in (Client(context, endpoint) for _ in range(clients))}
    poller = zmq.Poller()
    ask = pairs_of(1)
    for socket, client in asking.items():
        poller.register(socket, zmq.POLLIN)
        client.ask(hidden, *ask)
    answered, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for socket, _ in poller.poll(1_000):
            asking[socket].answer()
            answered += 1
            asking[socket].ask(hidden, *ask)
    elapsed = time.perf_counter() - start
    for socket, client in asking.items():
        client.answer()
        socket.close()
    return answered / elapsed


def measure(name: str, root: Path, *, rounds: int) -> dict:
    rng = np.random.default_rng(0)
    found: dict = {"expert": name, "size": EXPERTS[name], "latency_us": {}, "rate": {}}
    with ExitStack() as stack:
        calls, agent, _ = contenders(stack, root, name)
        hidden = {n: rng.standard_normal((n, EXPERTS[name][0])).astype(np.float32) for n in TOKENS}
        for tokens in TOKENS:
            per_round = max(2, 48 // tokens)
            times = latencies(calls, hidden[tokens], rounds=rounds, per_round=per_round)
            found["latency_us"][tokens] = {
                who: {"p10": float(np.percentile(t, 10) * 1e6), "p50": float(np.median(t) * 1e6)}
                for who, t in times.items()
            }
        rates: dict[int, list[float]] = {clients: [] for clients in CLIENTS}
        for _ in range(max(1, rounds // 4)):
            for clients in CLIENTS:
                rates[clients].append(rate(agent.endpoint, hidden[1], clients=clients, seconds=0.3))
        found["rate"] = {clients: float(np.median(values)) for clients, values in rates.items()}
    return found


def report(found: dict) -> list[str]:
    name = found["expert"]
    lines = [f"expert {name} {found['size']}: microseconds, 10th percentile (median)"]
    for tokens, who in found["latency_us"].items():
        base, agent, other, bare = (who[k] for k in ("in-process", "agent", "grpc", "zeromq"))
        ratio = agent["p10"] / base["p10"]
        target = TARGETS.get((name, tokens))
        lines.append(
            f"{tokens:5d} tokens  "
            + "  ".join(f"{key} {v['p10']:8.0f} ({v['p50']:8.0f})" for key, v in who.items())
            + f"  agent/in-process {ratio:.2f} ({agent['p50'] / base['p50']:.2f})"
            + (f" [target {target}]" if target else "")
            + f"  grpc/in-process {other['p10'] / base['p10']:.2f}"
            + f"  agent/grpc {agent['p10'] / other['p10']:.2f}"
            + f"  zeromq/in-process {bare['p10'] / base['p10']:.2f}"
        )
    rates = found["rate"]
    batch = 16 / (found["latency_us"][16]["in-process"]["p50"] * 1e-6)
    lines.append(
        "tokens/s  "
        + "  ".join(f"{clients} clients {value:.0f}" for clients, value in rates.items())
        + f"  16 over 1: {rates[16] / rates[1]:.2f} [target {CLIENTS_TARGET}]"
        + f"  16 clients over in-process batch of 16: {rates[16] / batch:.0%}"
    )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--experts", nargs="+", choices=EXPERTS, default=list(EXPERTS))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = [measure(name, Path(folder), rounds=args.rounds) for name in args.experts]
    if args.json:
        print(json.dumps(results))
        return
    for found in results:
        print("\n".join(report(found)))


if __name__ == "__main__":
    main()
