"""Agents that are killed, stopped, restarted and shouted at while a coordinator works on them.

    python -m benchmarks.chaos [--agents N] [--seconds S] [--seed K]

Real agents on this machine, every expert on two of them, fading links, Top-K. At random times one
of them is killed and started again, ended in order and started again, stopped for seconds, stalled
for a moment, or its port is given garbage. Every layer's output is compared with what the slots of
its plan have to give, computed in float64; a plan of all slots has to give the undivided layer. The
exit status is 1 if an output is wrong or a row of the ledger is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import psutil

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.launch import AgentFailedToStart, launch, spawn, stop_all
from siftmoe.coordinator.assembly import air_interface, simulated_links
from siftmoe.coordinator.client import Client
from siftmoe.coordinator.config import AgentEntry
from siftmoe.coordinator.config_radio import RadioEntry
from siftmoe.coordinator.coordinator import Coordinator
from siftmoe.coordinator.dispatch import Dispatcher
from siftmoe.coordinator.fleet import AgentState, Fleet
from siftmoe.coordinator.layer_tables import unknown_tables
from siftmoe.coordinator.ledger import FaultRow, Ledger, SelectionRow, StepRow, TransmissionRow
from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.selection import NOBODY, Budget, BudgetKind
from siftmoe.models.manifest import Manifest
from tests.bundles import reference, shape_of, write_bundle

if TYPE_CHECKING:
    from siftmoe.agent.launch import LaunchedAgent
    from siftmoe.coordinator.layer import Served

LAYERS, TOP_K, MOST_TOKENS = 2, 2, 8
DEADLINE_S = 2.0
#: Mean time between faults, and how many agents may be away at a time.
PAUSE_S, AWAY = 0.8, 3
KINDS = ("kill", "restart", "stop", "stall", "garbage")
GARBAGE = (
    os.urandom(4096),
    b"GET / HTTP/1.1\r\nHost: agent\r\n\r\n",
    bytes.fromhex("16030100c8010000c40303") + os.urandom(193),
    b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x01NULL" + os.urandom(48),
)
TOLERANCE = 1e-3
#: What becomes of an agent so soon after its strike is over is taken to be because of it.
GRACE_S = 0.2


class Watched(Fleet):
    """A fleet that notes when its agents' states change."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.changes: list[tuple[float, int, AgentState]] = []

    def set_state(self, index: int, state: AgentState, **options: Any) -> None:
        """Note a state that is not ready."""
        super().set_state(index, state, **options)
        self.changes.append((time.monotonic(), index, state))

    def welcome(self, index: int, hello: Any, *, now_s: float) -> bool:
        """Note that one is ready."""
        good = super().welcome(index, hello, now_s=now_s)
        self.changes.append((time.monotonic(), index, self[index].state))
        return good


class Checked(Coordinator):
    """A coordinator whose outputs are compared with what their plans have to give."""

    experts: np.ndarray  # [L, E] of what an expert computes, set before use
    wrong = complete = layers = 0
    worst = 0.0

    def _audit(self, layer: int, hidden: np.ndarray, served: Served) -> None:
        plan, problem = served.plan, served.problem
        kept = plan.helper != NOBODY
        if not (plan.expert == np.where(kept, problem.routed_experts, problem.num_experts)).all():
            self.wrong += 1  # Top-K has no stand-ins
        wanted = np.zeros(hidden.shape)
        for e in range(problem.num_experts):
            mine = (kept & (problem.routed_experts == e)) * problem.gate_weights  # [T, K]
            wanted += mine.sum(axis=1)[:, None] * reference(
                self.shape, layer, e, hidden.astype(np.float64)
            )
        error = float(np.abs(served.output - wanted).max())
        self.worst = max(self.worst, error)
        self.wrong += error > TOLERANCE
        self.complete += bool(kept.all())
        self.layers += 1


class Board:
    """One agent's process, and what is done to it."""

    def __init__(self, agent: LaunchedAgent, config: AgentConfig) -> None:
        self.agent, self.config = agent, config
        self.away = False

    def again(self) -> None:
        """Start it on its old port."""
        self.agent.stop()
        for _ in range(5):
            with contextlib.suppress(AgentFailedToStart):
                self.agent = launch(self.config)
                return
        raise RuntimeError(f"{self.config.name} does not start again")

    def signal(self, which: signal.Signals) -> None:
        """Send its process a signal."""
        os.kill(self.agent.process.pid, which)

    def garbage(self, data: bytes) -> None:
        """Give its port what is no message."""
        host, _, port = self.agent.endpoint.removeprefix("tcp://").rpartition(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1.0) as to:
            to.settimeout(0.2)
            to.sendall(data)
            to.recv(256)


class Chaos(threading.Thread):
    """Strikes boards at random times until told to stop, and then mends them all."""

    def __init__(self, boards: list[Board], seed: int) -> None:
        super().__init__(daemon=True)
        self._boards, self._rng = boards, np.random.default_rng(seed)
        self._over = threading.Event()
        self._mending: list[threading.Thread] = []
        #: (time, kind, board), and when each was well again.
        self.strikes: list[tuple[float, str, int]] = []
        self.mended: list[tuple[float, str, int]] = []

    def run(self) -> None:
        """Strike."""
        while not self._over.wait(self._rng.exponential(PAUSE_S)):
            well = [n for n, board in enumerate(self._boards) if not board.away]
            if len(well) > len(self._boards) - AWAY:
                self._strike(str(self._rng.choice(KINDS)), int(self._rng.choice(well)))

    def end(self) -> None:
        """Stop striking, and wait until everybody is well."""
        self._over.set()
        self.join()
        for thread in self._mending:
            thread.join()

    def _strike(self, kind: str, n: int) -> None:
        board, pause_s = self._boards[n], self._rng.uniform(0.5, 3.0)
        board.away = True
        self.strikes.append((time.monotonic(), kind, n))
        if kind == "kill":
            board.signal(signal.SIGKILL)
        elif kind == "restart":
            board.signal(signal.SIGTERM)
        elif kind in ("stop", "stall"):
            board.signal(signal.SIGSTOP)
            pause_s *= 0.07 if kind == "stall" else 1.0
        else:
            board.garbage(GARBAGE[self._rng.integers(len(GARBAGE))])
            pause_s = 0.0
        thread = threading.Thread(target=self._mend, args=(kind, n, pause_s), daemon=True)
        thread.start()
        self._mending.append(thread)

    def _mend(self, kind: str, n: int, pause_s: float) -> None:
        board = self._boards[n]
        time.sleep(pause_s)
        if kind in ("kill", "restart"):
            board.again()
        elif kind in ("stop", "stall"):
            board.signal(signal.SIGCONT)
        self.mended.append((time.monotonic(), kind, n))
        board.away = False


def start(bundle: Path, agents: int) -> list[Board]:
    """Start agents; number n hosts experts n and n + 1."""
    configs = [
        AgentConfig(
            bundle=str(bundle),
            name=f"a{n}",
            experts=f"*:{n},*:{(n + 1) % agents}",
            provider="cpu",
            threads=1,
            idle_s=0.0,
        )
        for n in range(agents)
    ]
    starting = [spawn(config) for config in configs]
    boards = []
    for config, agent in zip(configs, starting, strict=True):
        ready = agent.wait()
        options = {**{f: getattr(config, f) for f in config.__struct_fields__}}
        boards.append(Board(ready, AgentConfig(**{**options, "bind": ready.endpoint})))
    return boards


def drive(
    coordinator: Checked, *, seconds: float, seed: int, watch: list[tuple[float, ...]]
) -> int:
    """Serve steps until the time is over; returns how many."""
    rng, shape, process = np.random.default_rng(seed), coordinator.shape, psutil.Process()
    began_s, steps = time.monotonic(), 0
    due_s = began_s + seconds / 8
    while (now_s := time.monotonic()) < began_s + seconds:
        tokens = int(rng.integers(1, MOST_TOKENS + 1))
        hidden = rng.standard_normal((tokens, shape.hidden_size)).astype(np.float32)
        routed = np.stack([rng.permutation(shape.num_experts)[:TOP_K] for _ in range(tokens)])
        gates = rng.dirichlet(np.ones(TOP_K), size=tokens)
        coordinator.begin_step(tokens=tokens, prefill=tokens > 1)
        for layer in range(LAYERS):
            coordinator.run_layer(layer, hidden, routed_experts=routed, gate_weights=gates)
        coordinator.end_step(failed=False)
        steps += 1
        if now_s >= due_s:
            watch.append((now_s - began_s, process.memory_info().rss / 2**20, process.num_fds()))
            due_s += seconds / 8
    return steps


def delays(chaos: Chaos, fleet: Watched, kind: str) -> tuple[list[float], list[float]]:
    """Time from each strike to the state that it brought about, and from its end to being ready.

    A strike that was over before anybody noticed has neither.
    """
    noticed, back = [], []
    for struck_s, which, n in chaos.strikes:
        if which != kind:
            continue
        until_s = min(
            (when for when, _, other in chaos.strikes if other == n and when > struck_s),
            default=float("inf"),
        )
        mended_s = min(when for when, _, other in chaos.mended if other == n and when >= struck_s)
        changes = [(at, s) for at, index, s in fleet.changes if index == n and at >= struck_s]
        end_s = min(until_s, mended_s + GRACE_S)
        gone_s = [at for at, s in changes if s is not AgentState.READY and at < end_s]
        if gone_s:
            noticed.append(gone_s[0] - struck_s)
            ready_s = [
                at for at, s in changes if s is AgentState.READY and gone_s[0] < at < until_s
            ]
            back += [max(0.0, at - mended_s) for at in ready_s[:1]]
    return noticed, back


def milliseconds(values: list[float]) -> str:
    """Median, and the longest."""
    if not values:
        return "-"
    return f"{np.median(values) * 1e3:.0f} / {max(values) * 1e3:.0f}"


def report(coordinator: Checked, chaos: Chaos, fleet: Watched, steps: int, watch: Any) -> bool:
    """Print what happened; True if nothing was wrong or lost."""
    ledger = coordinator.ledger
    selections = list(ledger.rows(SelectionRow))
    faults = list(ledger.rows(FaultRow))
    struck = Counter(kind for _, kind, _ in chaos.strikes)
    print("| fault | times | of them noticed | after, ms (median / longest) | back after, ms |")
    print("|---|---|---|---|---|")
    for kind in KINDS:
        noticed, back = delays(chaos, fleet, kind)
        times = f"{struck[kind]} | {len(noticed)} | {milliseconds(noticed)}"
        print(f"| {kind} | {times} | {milliseconds(back)} |")
    again = len({(row.step, row.layer) for row in faults})
    slots = sum(row.kept + row.replaced + row.skipped for row in selections)
    lost_rows = (steps - sum(1 for _ in ledger.rows(StepRow))) + (steps * LAYERS - len(selections))
    requests = sum(1 for row in ledger.rows(TransmissionRow) if row.direction == "up")
    print(f"\n{steps} steps, {coordinator.layers} layers, {requests} requests.")
    print(f"Layers solved again for {len(faults)} faults: {again}; the faults' errors: ", end="")
    print(", ".join(f"{k} {n}" for k, n in Counter(row.kind for row in faults).items()) or "none")
    print(
        f"Layers with all slots: {coordinator.complete} of {coordinator.layers}; of {slots} slots "
        f"{sum(row.faulted for row in selections)} lost to faults, "
        f"{sum(row.skipped - row.faulted for row in selections)} skipped for want of a host."
    )
    print(
        f"Longest wait for a failed helper: {max((r.waited_s for r in faults), default=0):.3f} s."
    )
    print(f"Wrong outputs: {coordinator.wrong} (largest error {coordinator.worst:.1e}).")
    print(f"Ledger rows lost: {lost_rows}.")
    print("Coordinator's memory, MB (open files) over time: ", end="")
    print(", ".join(f"{rss:.0f} ({files:.0f})" for _, rss, files in watch))
    return not (coordinator.wrong or lost_rows)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.disable()  # what is found is in the table
    shape = shape_of(
        num_layers=LAYERS, num_experts=args.agents, hidden_size=64, intermediate_size=96
    )
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        bundle = write_bundle(Path(folder) / "bundle", shape)
        boards = start(bundle, args.agents)
        stack.callback(lambda: stop_all([board.agent.process for board in boards]))
        entries = [AgentEntry(name=b.config.name, address=b.agent.endpoint) for b in boards]
        fleet = Watched(entries, shape=shape, model_hash=Manifest.load(bundle).model_hash)
        client = stack.enter_context(Client(fleet))
        client.connect(timeout_s=60.0)
        radio = RadioEntry(deadline_s=0.01, bits=32)
        distances = [20.0] * args.agents
        budget = Budget(kind=BudgetKind.PER_TOKEN, value=0.0)
        ledger = stack.enter_context(Ledger.create(Path(folder) / "ledger.sqlite"))
        coordinator = Checked(
            fleet=fleet,
            dispatcher=Dispatcher(client, deadline_s=DEADLINE_S),
            links=simulated_links(radio, distances),
            air=air_interface(radio, shape, distances_m=distances),
            policy=make_policy("topk"),
            tables=unknown_tables(LAYERS, args.agents, budget=budget, width=32),
            ledger=ledger,
        )
        coordinator.shape = shape
        chaos, watch = Chaos(boards, args.seed), []
        chaos.start()
        try:
            steps = drive(coordinator, seconds=args.seconds, seed=args.seed, watch=watch)
        finally:
            chaos.end()
        everybody = client.wait_ready(timeout_s=60.0)
        print(f"{args.agents} agents, {args.seconds:g} s, seed {args.seed}.\n")
        good = report(coordinator, chaos, fleet, steps, watch)
        sizes = [psutil.Process(b.agent.process.pid).memory_info().rss / 2**20 for b in boards]
        print(f"Agents' memory in the end: {min(sizes):.0f} to {max(sizes):.0f} MB.")
        print(f"In the end {int(fleet.ready().sum())} of {args.agents} agents are ready.")
        return 0 if good and everybody else 1


if __name__ == "__main__":
    sys.exit(main())
