"""Agents that are killed, stopped, restarted, sent garbage or badly connected during a run.

    python -m benchmarks.chaos [--agents N] [--requests R] [--seconds S] [--seed K]

Real agents on this machine, every expert on two of them, fading links, Top-K. Every second agent is
behind its own network link (`tests.bad_links`) and has keys; this takes root, and without root the
faults of links are left out and the output says so. At random times an agent is killed and
restarted, ended in order and restarted, stopped for seconds, stalled for a moment, or receives
garbage on its port; or for 0.5 to 3 s its link loses 30 % of the packets, delays each by 20 ± 10 ms
each way, or carries nothing.

Every layer's output is compared with the result of its plan's slots in float64; a plan of all slots
must give the undivided layer. The benchmark ends after R requests, or S seconds. The exit status is
1 if an output is wrong, a row of the ledger is missing or an agent does not come back.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import psutil

from benchmarks.chaos.strikes import KINDS, LINKS, Board, Chaos, boards_of
from benchmarks.chaos.watch import Checked, Watched, WatchedClient, seen
from siftmoe.agent.process.launch import stop_all
from siftmoe.coordinator.air.assembly import air_interface
from siftmoe.coordinator.client.security import ClientSecurity
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.config.radio import RadioEntry
from siftmoe.coordinator.dispatch.dispatcher import Dispatcher
from siftmoe.coordinator.ledger.store import (
    FaultRow,
    Ledger,
    SelectionRow,
    StepRow,
    TransmissionRow,
)
from siftmoe.coordinator.links.assembly import simulated_links
from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.selection.problem import Budget, BudgetKind
from siftmoe.coordinator.selection.tables import unknown_tables
from siftmoe.models.bundle.manifest import Manifest
from tests.bad_links import BadLinks, why_not
from tests.bundles import shape_of, write_bundle

if TYPE_CHECKING:
    from siftmoe.agent.security.keys import KeyPair

LAYERS, TOP_K, MOST_TOKENS = 2, 2, 8
DEADLINE_S: Final = 1.0
#: Time limits for noticing a strike, for a killed and for a wedged agent.
TARGETS_S: Final = {"kill": 0.01, "stop": 0.4, "cut": 0.4}
#: Steps before the first strike, so that imports and compilation are not counted as faults.
WARM_UP: Final = 400
#: Samples of memory and open files during the run.
LOOKS: Final = 8


def start(boards: list[Board]) -> None:
    """Start all agents side by side."""
    for board in boards:
        board.begin()
    for board in boards:
        board.ready()


class Meter:
    """Memory and open files of this process during the run."""

    def __init__(self, requests: int) -> None:
        self._every, self._process = requests / LOOKS, psutil.Process()
        self.looks: list[tuple[float, int]] = []

    def look(self, requests: int) -> None:
        """Take a sample if it is due."""
        if requests >= self._every * len(self.looks):
            megabytes = self._process.memory_info().rss / 2**20
            self.looks.append((megabytes, self._process.num_fds()))


def drive(
    coordinator: Checked,
    rng: np.random.Generator,
    *,
    requests: int,
    seconds: float,
    meter: Meter,
) -> int:
    """Run steps until the number of requests or the time is reached; returns the requests."""
    shape, end_s, steps = coordinator.shape, time.monotonic() + seconds, 0
    while coordinator.requests < requests and time.monotonic() < end_s:
        tokens = int(rng.integers(1, MOST_TOKENS + 1))
        hidden = rng.standard_normal((tokens, shape.hidden_size)).astype(np.float32)
        routed = np.stack([rng.permutation(shape.num_experts)[:TOP_K] for _ in range(tokens)])
        gates = rng.dirichlet(np.ones(TOP_K), size=tokens)
        coordinator.begin_step(tokens=tokens, prefill=tokens > 1)
        for layer in range(LAYERS):
            coordinator.run_layer(layer, hidden, routed_experts=routed, gate_weights=gates)
        coordinator.end_step(failed=False)
        steps += 1
        meter.look(coordinator.requests)
    return steps


def milliseconds(values: list[float]) -> str:
    """Median, 90th percentile and the longest."""
    if not values:
        return "-"
    return " / ".join(f"{v * 1e3:.0f}" for v in (*np.percentile(values, [50, 90]), max(values)))


def table(chaos: Chaos, fleet: Watched, client: WatchedClient, kinds: list[str]) -> None:
    """Print the results of the strikes."""
    struck = Counter(strike.kind for strike in chaos.strikes)
    print("| fault | times | in use | left out for it | after, ms | target | back after, ms |")
    print("|---|---|---|---|---|---|---|")
    late = []
    for kind in kinds:
        found = seen(chaos.strikes, fleet, kind)
        noticed = [s for s in found if s.noticed_s is not None]
        delays, back = [s.noticed_s for s in noticed], [s.back_s for s in noticed if s.back_s]
        target_s, held = TARGETS_S.get(kind), "-"
        if target_s is not None:
            held = f"{sum(d <= target_s for d in delays)} within {target_s * 1e3:.0f}"
            late += [(s.noticed_s - target_s, s) for s in noticed if s.noticed_s > target_s]
        print(
            f"| {kind} | {struck[kind]} | {len(found)} | {len(noticed)} | {milliseconds(delays)} | "
            f"{held} | {milliseconds(back)} |"
        )
    print(
        "\nIn use: struck while the coordinator used the agent, which a strike soon after another "
        "does not find. Times are median / 90th percentile / longest. The latest beyond their "
        f"target: {'' if late else 'none'}"
    )
    for _, one in sorted(late, key=lambda pair: -pair[0])[:5]:
        began_s = one.strike.began_s
        gap_s = client.unwatched_s(began_s, began_s + one.noticed_s)
        print(
            f"- {one.strike.kind} of a{one.strike.board}: {one.noticed_s * 1e3:.0f} ms, in "
            f"{gap_s * 1e3:.0f} of which the coordinator did not look at its connections"
        )


def report(coordinator: Checked, *, steps: int, looks: list[tuple[float, int]]) -> bool:
    """Print what was served; returns True if nothing was wrong or lost."""
    ledger = coordinator.ledger
    selections = list(ledger.rows(SelectionRow))
    faults = list(ledger.rows(FaultRow))
    slots = sum(row.kept + row.replaced + row.skipped for row in selections)
    lost_rows = (steps - sum(1 for _ in ledger.rows(StepRow))) + (steps * LAYERS - len(selections))
    requests = sum(1 for row in ledger.rows(TransmissionRow) if row.direction == "up")
    missed = [row for row in faults if row.kind == "DeadlineMissed"]
    again = len({(row.step, row.layer) for row in faults})
    tokens = sum(row.tokens for row in ledger.rows(StepRow)) * LAYERS
    print(f"\n{steps} steps, {coordinator.layers} layers, {requests} requests.")
    print(f"Layers solved again for {len(faults)} faults: {again}; the faults' errors: ", end="")
    print(", ".join(f"{k} {n}" for k, n in Counter(row.kind for row in faults).items()) or "none")
    print(
        f"Answers that missed a round's half of the layer's {DEADLINE_S:g} s: {len(missed)}. In "
        f"layers that gave slots up for it, {coordinator.short_tokens} of {tokens} tokens went on "
        f"without one, counted once per layer."
    )
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
    print("Coordinator's memory, MB (open files), as requests went on: ", end="")
    print(", ".join(f"{rss:.0f} ({files})" for rss, files in looks))
    return not (coordinator.wrong or lost_rows)


def sizes(boards: list[Board]) -> str:
    """Return the least and the largest memory of the agents now."""
    found = [psutil.Process(b.agent.process.pid).memory_info().rss / 2**20 for b in boards]
    return f"{min(found):.0f} to {max(found):.0f} MB"


def coordinated(
    stack: contextlib.ExitStack, boards: list[Board], pairs: dict[str, KeyPair], folder: Path
) -> tuple[Checked, Watched, WatchedClient]:
    """Connect a coordinator to the agents."""
    keys = {name: pair.public for name, pair in pairs.items()}
    entries = [
        AgentEntry(name=b.config.name, address=b.agent.endpoint, key=keys.get(b.config.name))
        for b in boards
    ]
    manifest = Manifest.load(boards[0].config.bundle)
    fleet = Watched(entries, shape=manifest.shape, model_hash=manifest.model_hash)
    security = ClientSecurity(keys=pairs["coordinator"])
    client = stack.enter_context(WatchedClient(fleet, security=security))
    client.connect(timeout_s=60.0)
    radio = RadioEntry(deadline_s=0.01, bits=32)
    distances = [20.0] * len(boards)
    budget = Budget(kind=BudgetKind.PER_TOKEN, value=0.0)
    coordinator = Checked(
        fleet=fleet,
        dispatcher=Dispatcher(client, deadline_s=DEADLINE_S),
        links=simulated_links(radio, distances),
        air=air_interface(radio, manifest.shape, distances_m=distances),
        policy=make_policy("topk"),
        tables=unknown_tables(LAYERS, manifest.shape.num_experts, budget=budget, width=32),
        ledger=stack.enter_context(Ledger.create(folder / "ledger.sqlite")),
    )
    coordinator.shape = manifest.shape
    return coordinator, fleet, client


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=1_800.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.disable()  # the results are in the table
    problem = why_not()
    shape = shape_of(
        num_layers=LAYERS, num_experts=args.agents, hidden_size=64, intermediate_size=96
    )
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, links = Path(name), None
        if not problem:
            links = stack.enter_context(BadLinks(args.agents // 2, seed=args.seed))
        bundle = write_bundle(folder / "bundle", shape)
        boards, pairs = boards_of(bundle, args.agents, links=links, keys=folder)
        stack.callback(lambda: stop_all([b.agent.process for b in boards if b.started]))
        start(boards)
        coordinator, fleet, client = coordinated(stack, boards, pairs, folder)
        chaos, meter = Chaos(boards, args.seed), Meter(args.requests)
        rng = np.random.default_rng(args.seed)
        steps = drive(coordinator, rng, requests=WARM_UP, seconds=60.0, meter=meter)
        before, began_s = sizes(boards), time.monotonic()
        chaos.start()
        try:
            steps += drive(
                coordinator, rng, requests=args.requests, seconds=args.seconds, meter=meter
            )
        finally:
            wall_s = time.monotonic() - began_s
            chaos.end()
        everybody = client.wait_ready(timeout_s=60.0)
        print(f"{args.agents} agents, {wall_s:.0f} s, seed {args.seed}. ", end="")
        behind = f"{args.agents // 2} of them are behind links of their own, with keys"
        print(f"FAULTS OF LINKS LEFT OUT: {problem}.\n" if problem else f"{behind}.\n")
        table(chaos, fleet, client, [k for k in KINDS if not (problem and k in LINKS)])
        good = report(coordinator, steps=steps, looks=meter.looks)
        print(f"Agents' memory, at first and in the end: {before}, {sizes(boards)}.")
        print(f"In the end {int(fleet.ready().sum())} of {args.agents} agents are ready.")
        return 0 if good and everybody else 1


if __name__ == "__main__":
    sys.exit(main())
