"""Mutated frames against agent and coordinator: only ProtocolError, and no growth of memory.

    python -m benchmarks.fuzz.protocol [--runs N] [--examples N] [--seed K]

Atheris, guided by coverage, gives each side N inputs: raw frames, and messages of every kind with
bytes, frames and header keys changed. The agent's side is decoder, service and experts; the
coordinator's is decoder, client, dispatcher, and the readers of soundings, heat and board energy.
An unexpected exception ends the benchmark with exit status 1. Hypothesis then mutates frames for
the decoder alone, as the test suite does with fewer. Needs atheris: make fuzz, or pip install
'siftmoe[fuzz]'.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("OMP_NUM_THREADS", "1")

import psutil
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

#: Side -> module and function that handles frames as it does.
TARGETS: Final = {
    "agent": ("benchmarks.fuzz.agent", "agent_end"),
    "coordinator": ("benchmarks.fuzz.coordinator", "coordinator_end"),
}
#: Coverage of these guides the search.
_WIRE: Final = ("messages", "sound", "packed", "packed_check", "payload", "protocol")
_AGENT: Final = ("compute.runtime", "service.requests", *(f"wire.{name}" for name in _WIRE))
_COORDINATOR: Final = (
    *("board_energy", "fleet.agents", "sounding.results"),
    *("dispatch.dispatcher", "dispatch.grouping"),
)
_HEALTH: Final = ("checks", "heat", "liveness", "rest", "retry")
_CLIENT: Final = ("requests", "exchange", *(f"health.{name}" for name in _HEALTH))
GUIDES: Final = (
    *(f"siftmoe.agent.{name}" for name in _AGENT),
    *(f"siftmoe.coordinator.{name}" for name in _COORDINATOR),
    *(f"siftmoe.coordinator.client.{name}" for name in _CLIENT),
)
#: Samples of memory, and number of inputs that are kept for them.
LOOKS: Final = 10
REPLAYED: Final = 300_000


def fuzz(name: str, folder: Path, *, runs: int, seed: int) -> None:
    """Run as the process that atheris fuzzes; its last line of output is the result."""
    import atheris

    with atheris.instrument_imports(include=list(GUIDES)):
        end = _end(name)
    counts: Counter[str] = Counter()
    target = end(folder / "bundle", counts)
    inputs = (folder / "inputs").open("wb")
    done, began_s = 0, time.monotonic()

    def once(raw: bytes) -> None:
        nonlocal done
        target(atheris.FuzzedDataProvider(raw))
        done += 1
        if done <= REPLAYED:
            inputs.write(len(raw).to_bytes(2, "little") + raw)
        if done == runs:
            inputs.flush()
            wall_s = time.monotonic() - began_s
            print(json.dumps({"wall_s": wall_s, "counts": counts}), flush=True)

    options = [f"-runs={runs}", f"-seed={seed}", "-max_len=512", "-len_control=0", "-timeout=20"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/"], once)
    atheris.Fuzz()


def replay(name: str, folder: Path, *, runs: int) -> None:
    """Repeat atheris's inputs as often as needed, and report this process's memory.

    Atheris's own process is not measured: its coverage data grow with every input.
    """
    import atheris

    target, process = _end(name)(folder / "bundle", Counter()), psutil.Process()
    blob, found, at = (folder / "inputs").read_bytes(), [], 0
    while at < len(blob):
        size = int.from_bytes(blob[at : at + 2], "little")
        found.append(blob[at + 2 : at + 2 + size])
        at += 2 + size
    looks: list[float] = []
    for number in range(1, runs + 1):
        target(atheris.FuzzedDataProvider(found[number % len(found)]))
        if number % max(1, runs // LOOKS) == 0:
            looks.append(process.memory_info().rss / 2**20)
    print(json.dumps({"memory_mb": looks}), flush=True)


def _end(name: str) -> Any:
    module, function = TARGETS[name]
    return getattr(importlib.import_module(module), function)


def run(name: str, *, runs: int, seed: int) -> dict[str, Any] | None:
    """Fuzz one side in separate processes; None if one failed, with its output on stderr."""
    from tests.bundles import shape_of, write_bundle

    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name_of_folder:
        folder = Path(name_of_folder)
        for part in ("fuzz", "replay"):
            shutil.rmtree(folder / "bundle", ignore_errors=True)
            write_bundle(folder / "bundle", shape_of())
            options = ["--runs", str(runs), "--seed", str(seed), "--folder", str(folder)]
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.fuzz.protocol", *options, "--part", part, name],
                capture_output=True,
                text=True,
                check=False,
            )
            lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
            if done.returncode or not lines:
                print(done.stdout[-2_000:], done.stderr[-4_000:], file=sys.stderr)
                return None
            told |= json.loads(lines[-1])
    return told


def by_hypothesis(examples: int, seed: int) -> float:
    """Mutate more frames than the test suite; returns the time, s."""
    from tests.property.test_protocol import decodes_or_refuses, mutated

    every = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    began_s = time.monotonic()
    seeded(seed)(every(given(mutated())(decodes_or_refuses)))()
    return time.monotonic() - began_s


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("atheris is missing: make fuzz, or pip install 'siftmoe[fuzz]'", file=sys.stderr)
        return 1
    if args.part is not None:
        logging.disable()
        part, name = args.part
        if part == "fuzz":
            fuzz(name, args.folder, runs=args.runs, seed=args.seed)
        else:
            replay(name, args.folder, runs=args.runs)
        return 0
    return compare(args.runs, args.examples, args.seed)


def compare(runs: int, examples: int, seed: int) -> int:
    """Fuzz both sides and print the results; returns the exit status."""
    print("| by, against | inputs | inputs/s | unexpected errors | memory of the replay, MB |")
    print("|---|---|---|---|---|")
    inputs = []
    for name in TARGETS:
        found = run(name, runs=runs, seed=seed)
        if found is None:
            return 1
        looks = found["memory_mb"]
        memory = " / ".join(f"{look:.1f}" for look in (looks[0], looks[len(looks) // 2], looks[-1]))
        print(f"| atheris, {name} | {runs:,} | {runs / found['wall_s']:,.0f} | 0 | {memory} |")
        counts = ", ".join(f"{kind} {n:,}" for kind, n in sorted(found["counts"].items()))
        inputs.append(f"- {name}: {counts}")
    wall_s = by_hypothesis(examples, seed)
    print(f"| Hypothesis, decoder | {examples:,} | {examples / wall_s:,.0f} | 0 | |")
    print(
        f"\nMemory is that of a process without atheris after 10, 60 and 100 % of as many inputs, "
        f"the first {REPLAYED:,} that atheris made again and again. What they turned out to be:\n"
    )
    print("\n".join(inputs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
