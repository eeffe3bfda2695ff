"""Cost of packing relative to the expert's computation, and round-trip time at each width.

    python -m benchmarks.agents.packing [--rounds N] [--packing numpy]

First: the time of packing and unpacking, on both sides and in both directions, over ONNX Runtime's
compute in the same process and thread, medians. "Behind the expert": each of the four follows a
run, whose weights have passed through the caches, as with one request at a time. "By itself": each
is repeated. Results are as wide as the hidden states; in a mix a third each is sent at 8, 4 and 3
bits and all results at 8. Target: below 10 % at 16 tokens.

Second: the round trip of a real agent over ZeroMQ, packing at both ends included, asked at each
width in turn; medians.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import zmq

from benchmarks.agents.roundtrip import EXPERTS, Client, pairs_of
from siftmoe.agent.compute.memory import keep_freed_memory
from siftmoe.agent.compute.providers import open_session
from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import launch
from siftmoe.agent.wire.protocol import Apply, Vectors, pack_rows, packed, plain
from siftmoe.models.bundle.manifest import expert_name
from siftmoe.models.vectors.fused import load_kernels, write_runs
from tests.bundles import shape_of, write_bundle

TOKENS = (1, 16, 256)
WIDTHS = {"16": (16,), "8": (8,), "4": (4,), "3": (3,), "8, 4 and 3": (8, 4, 3)}
TRAVELLING = (16, 8, 4)
TARGET = 0.10
ROTATION = "hadamard"


def runs_of(count: int, widths: tuple[int, ...]) -> list[tuple[int, int]]:
    """Width and number of rows, as equal as can be."""
    counts = [len(part) for part in np.array_split(np.arange(count), len(widths))]
    return [(width, rows) for width, rows in zip(widths, counts, strict=True) if rows]


def out(hidden: np.ndarray, runs: list[tuple[int, int]]) -> Vectors:
    """Pack as a coordinator does: each width's rows together."""
    if len(runs) == 1:
        return pack_rows(hidden, runs[0][0], rotation=ROTATION)
    records = write_runs(hidden, runs, rotation=ROTATION)
    parts = [(width, part) for (width, _), part in zip(runs, records, strict=True)]
    return packed(parts, size=hidden.shape[1], rotation=ROTATION)


def parts(hidden: np.ndarray, output: np.ndarray, widths: tuple[int, ...]):
    """Return the four steps in order: hidden states out, results back."""
    runs = runs_of(len(hidden), widths)
    reply = runs_of(len(output), widths[:1])  # all results have one width
    there, back = out(hidden, runs), out(output, reply)
    return (
        lambda: out(hidden, runs),
        lambda: plain(there),
        lambda: out(output, reply),
        lambda: plain(back),
    )


def medians(session, hidden: np.ndarray, *, rounds: int) -> tuple[float, dict, dict]:
    """Return seconds of the compute, and of the four steps behind it and by themselves."""

    def run() -> np.ndarray:
        return session.run(["output"], {"hidden": hidden})[0]

    output = run()
    calls = {name: parts(hidden, output, widths) for name, widths in WIDTHS.items()}
    compute: list[float] = []
    behind, alone = ({name: ([], [], [], []) for name in WIDTHS} for _ in range(2))
    for _ in range(rounds):
        for name, four in calls.items():
            for place, call in enumerate(four):
                began = time.perf_counter()
                run()
                computed = time.perf_counter()
                call()
                ended = time.perf_counter()
                for _ in range(3):
                    call()
                again = time.perf_counter()
                call()
                compute.append(computed - began)
                behind[name][place].append(ended - computed)
                alone[name][place].append(time.perf_counter() - again)
    sums = [
        {name: sum(float(np.median(part)) for part in four) for name, four in found.items()}
        for found in (behind, alone)
    ]
    return float(np.median(compute)), *sums


def table(root: Path, *, rounds: int) -> list[str]:
    lines = [
        "| expert | tokens | compute | packing | "
        + " | ".join(f"{name} bits" for name in WIDTHS)
        + " |",
        "|---" * (4 + len(WIDTHS)) + "|",
    ]
    for name, (hidden_size, inner) in EXPERTS.items():
        shape = shape_of(
            num_layers=1, num_experts=1, hidden_size=hidden_size, intermediate_size=inner
        )
        bundle = write_bundle(root / name, shape)
        session = open_session(bundle / expert_name(0, 0), provider="cpu", threads=1)
        for tokens in TOKENS:
            hidden = np.random.default_rng(tokens).standard_normal((tokens, hidden_size))
            per_size = max(5, rounds // (1 + tokens // 32))
            compute, *sums = medians(session, hidden.astype(np.float32), rounds=per_size)
            for how, found in zip(("by itself", "behind the expert"), reversed(sums), strict=True):
                cells = [f"{took * 1e6:.0f} µs, {took / compute:.1%}" for took in found.values()]
                lines.append(
                    f"| {name} {hidden_size} x {inner} | {tokens} | {compute * 1e6:.0f} µs | {how} "
                    "| " + " | ".join(cells) + " |"
                )
    return lines


def round_trip(client: Client, hidden: np.ndarray, width: int) -> np.ndarray:
    """Ask an agent at one width in both directions; returns its answer."""
    client.next_id += 1
    pairs, weights = pairs_of(len(hidden))
    client.send(
        Apply(
            id=client.next_id,
            layer=0,
            hidden=out(hidden, runs_of(len(hidden), (width,))),
            pairs=pairs,
            weights=weights,
            reply_width=width,
            reply_rotation=ROTATION,
        )
    )
    return plain(client.answer())


def trips(root: Path, *, rounds: int) -> list[str]:
    lines = [
        "| expert | tokens | " + " | ".join(f"{width} bits" for width in TRAVELLING) + " |",
        "|---" * (2 + len(TRAVELLING)) + "|",
    ]
    for name, (hidden_size, _) in EXPERTS.items():
        with ExitStack() as stack:
            agent = launch(AgentConfig(bundle=str(root / name), provider="cpu", threads=1))
            stack.callback(agent.stop)
            client = Client(zmq.Context.instance(), agent.endpoint)
            stack.callback(client.socket.close)
            for tokens in TOKENS:
                hidden = np.random.default_rng(tokens).standard_normal((tokens, hidden_size))
                took = latencies(
                    client, hidden.astype(np.float32), rounds=max(8, rounds // (1 + tokens // 32))
                )
                base = took[TRAVELLING[0]]
                cells = [f"{us * 1e6:.0f} µs, {us / base:.2f}" for us in took.values()]
                lines.append(f"| {name} | {tokens} | " + " | ".join(cells) + " |")
    return lines


def latencies(client: Client, hidden: np.ndarray, *, rounds: int) -> dict[int, float]:
    """Median seconds at each width; they take turns."""
    times: dict[int, list[float]] = {width: [] for width in TRAVELLING}
    order = deque(TRAVELLING)
    for _ in range(rounds):
        order.rotate(1)
        for width in order:
            round_trip(client, hidden, width)  # its weights are in the cache
            for _ in range(3):
                began = time.perf_counter()
                round_trip(client, hidden, width)
                times[width].append(time.perf_counter() - began)
    return {width: float(np.median(values)) for width, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--packing", choices=("compiled", "numpy"), default="compiled")
    args = parser.parse_args()
    keep_freed_memory()  # as an agent does
    if args.packing == "compiled" and not load_kernels():
        parser.error("numba is not installed; --packing numpy")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        print(
            "Packing and unpacking, both sides and both ways, over the expert's compute (one "
            f"thread, medians). Target at 16 tokens: {TARGET:.0%}.\n"
        )
        print("\n".join(table(root, rounds=args.rounds)), flush=True)
        print(
            "\nRound trip of an agent, packing included, and over the one at 16 bits (medians).\n"
        )
        print("\n".join(trips(root, rounds=args.rounds)))


if __name__ == "__main__":
    main()
