"""Tokens per second of `siftmoe serve`: one client, and several that are decoded together.

    python -m benchmarks.coordinator.serving [--json] [--rounds N] [--requests N]

The server runs on agents of this machine, the clients are threads of this process. One client and
eight take turns. Then many short requests show whether the server's memory stays.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

AGENTS = 2
CLIENTS = 8
TOKENS = 48
PROMPT = "Return the number of"


@contextmanager
def serving() -> Iterator[tuple[str, psutil.Process]]:
    command = [sys.executable, "-m", "siftmoe.tools.cli", "serve", "--local", "upcycled"]
    command += ["--agents", str(AGENTS), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"at (http://\S+/v1)", line):
            break
    else:
        raise RuntimeError("the server did not start")
    try:
        yield found[1], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def ask(url: str, tokens: int) -> int:
    body = {"prompt": PROMPT, "max_tokens": tokens, "temperature": 0}
    answer = httpx.post(f"{url}/completions", json=body, timeout=120.0)
    answer.raise_for_status()
    return int(answer.json()["usage"]["completion_tokens"])


def rate(url: str, clients: int) -> float:
    """Tokens per second of so many clients at once."""
    made: list[int] = []
    threads = [
        threading.Thread(target=lambda: made.append(ask(url, TOKENS))) for _ in range(clients)
    ]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(made) / (time.perf_counter() - began)


def measure(rounds: int, requests: int) -> dict[str, Any]:
    with serving() as (url, server):
        for clients in (1, CLIENTS):
            rate(url, clients)  # warm
        pairs = [(rate(url, 1), rate(url, CLIENTS)) for _ in range(rounds)]
        memory = []
        for number in range(requests):
            ask(url, 1)
            if number in (requests // 10, requests - 1):
                memory.append(server.memory_info().rss / 2**20)
    return {
        "one": statistics.median(one for one, _ in pairs),
        "together": statistics.median(many for _, many in pairs),
        "ratio": statistics.median(many / one for one, many in pairs),
        "requests": requests,
        "memory_mib": memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=1000)
    args = parser.parse_args()
    found = measure(args.rounds, args.requests)
    if args.json:
        print(json.dumps(found))
        return
    first, last = found["memory_mib"]
    print(f"| | 1 client | {CLIENTS} clients | ratio |\n|---|---:|---:|---:|")
    print(f"| tokens/s | {found['one']:.0f} | {found['together']:.0f} | {found['ratio']:.1f} |\n")
    print(
        f"Medians of {args.rounds} rounds; {AGENTS} agents, {TOKENS} tokens a request. Memory of "
        f"the server after {args.requests // 10} short requests {first:.0f} MiB, after "
        f"{args.requests} {last:.0f} MiB."
    )


if __name__ == "__main__":
    main()
