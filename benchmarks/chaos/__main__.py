"""Agents that are killed, stopped, restarted, sent garbage or badly connected during a run.

    python -m benchmarks.chaos [--agents N] [--requests R] [--seconds S] [--epoch S] [--liars MODES]
        [--seed K]

Real agents on this machine, every expert on two of them, fading links, Top-K. Every second agent is
behind its own network link (`tests.bad_links`) and has keys; this takes root, and without root the
faults of links are left out and the output says so. At random times an agent is killed and
restarted, ended in order and restarted, stopped for seconds, stalled for a moment, or receives
garbage on its port; or for 0.5 to 3 s its link loses 30 % of the packets, delays each by 20 ± 10 ms
each way, or carries nothing.

Beside them lie eight agents that no strike hits, with the same experts: results times 1,000,
negated, zeros, rolled by an entry, NaN, late, twice, or a result, 300 unasked messages and the end
of the connection. In every epoch another coordinator begins, which has to find them; the user's
device computes sampled rows again.

Every layer's output is compared with the result of its plan's slots in float64; a plan of all slots
must give the undivided layer. An output that is wrong by exactly the lie of a liar that was not
found yet is counted apart. The benchmark ends after R requests, or S seconds. The exit status is 1
if an output is wrong otherwise, a row of the ledger is missing, or a true agent ends by itself or
does not come back.
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

from benchmarks.chaos.epochs import DEADLINE_S, all_back, coordinated
from benchmarks.chaos.liars import liars
from benchmarks.chaos.strikes import KINDS, LINKS, Board, Chaos, boards_of
from benchmarks.chaos.tally import Tally, liars_table, report
from benchmarks.chaos.watch import Checked, seen, unwatched_s
from siftmoe.agent.process.launch import stop_all
from siftmoe.coordinator.ledger.store import Ledger
from tests.bad_links import BadLinks, why_not
from tests.bundles import shape_of, write_bundle
from tests.liars import WRONG

if TYPE_CHECKING:
    pass

LAYERS, TOP_K, MOST_TOKENS = 2, 2, 8
#: Modes of `tests.liars`: wrong results, not finite, gone in the middle, late, twice.
LIARS: Final = ("big1000", "negated", "zeros", "others", "nan", "floods", "late", "twice")
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

    def __init__(self, requests: int, seconds: float) -> None:
        self._requests, self._seconds = requests / LOOKS, seconds / LOOKS
        self._process, self._began_s = psutil.Process(), time.monotonic()
        self.looks: list[tuple[float, int]] = []

    def look(self, requests: int) -> None:
        """Take a sample if it is due."""
        passed_s, due = time.monotonic() - self._began_s, len(self.looks)
        if requests >= self._requests * due or passed_s >= self._seconds * due:
            megabytes = self._process.memory_info().rss / 2**20
            self.looks.append((megabytes, self._process.num_fds()))


def drive(
    coordinator: Checked,
    rng: np.random.Generator,
    *,
    requests: int,
    seconds: float,
    meter: Meter,
) -> None:
    """Run steps until the number of requests or the time is reached."""
    shape, end_s, tally = coordinator.shape, time.monotonic() + seconds, coordinator.tally
    while tally.requests < requests and time.monotonic() < end_s:
        tokens = int(rng.integers(1, MOST_TOKENS + 1))
        hidden = rng.standard_normal((tokens, shape.hidden_size)).astype(np.float32)
        routed = np.stack([rng.permutation(shape.num_experts)[:TOP_K] for _ in range(tokens)])
        gates = rng.dirichlet(np.ones(TOP_K), size=tokens)
        coordinator.begin_step(tokens=tokens, prefill=tokens > 1)
        for layer in range(LAYERS):
            coordinator.run_layer(layer, hidden, routed_experts=routed, gate_weights=gates)
        coordinator.end_step(failed=False)
        tally.steps += 1
        meter.look(tally.requests)


def milliseconds(values: list[float]) -> str:
    """Median, 90th percentile and the longest."""
    if not values:
        return "-"
    return " / ".join(f"{v * 1e3:.0f}" for v in (*np.percentile(values, [50, 90]), max(values)))


def table(chaos: Chaos, tally: Tally, kinds: list[str]) -> None:
    """Print the results of the strikes."""
    struck = Counter(strike.kind for strike in chaos.strikes)
    print("| fault | times | in use | left out for it | after, ms | target | back after, ms |")
    print("|---|---|---|---|---|---|---|")
    late = []
    for kind in kinds:
        found = seen(chaos.strikes, tally, kind)
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
        gap_s = unwatched_s(tally, began_s, began_s + one.noticed_s)
        print(
            f"- {one.strike.kind} of a{one.strike.board}: {one.noticed_s * 1e3:.0f} ms, in "
            f"{gap_s * 1e3:.0f} of which the coordinator did not look at its connections"
        )


def sizes(boards: list[Board]) -> str:
    """Return the least and the largest memory of the agents now."""
    found = [psutil.Process(b.agent.process.pid).memory_info().rss / 2**20 for b in boards]
    return f"{min(found):.0f} to {max(found):.0f} MB"


def parsed() -> argparse.Namespace:
    """Parse the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=1_800.0)
    parser.add_argument("--epoch", type=float, default=60.0, help="seconds of one coordinator")
    parser.add_argument("--liars", default=",".join(LIARS), help="modes, with commas; '' for none")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> int:
    """Run it."""
    args = parsed()
    modes = [mode for mode in args.liars.split(",") if mode]
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
        addresses = stack.enter_context(liars(bundle, modes, num_experts=args.agents))
        false = dict(zip(modes, addresses, strict=True))
        ledger = stack.enter_context(Ledger.create(folder / "ledger.sqlite", label="warm-up"))
        tally, chaos, meter = Tally(), Chaos(boards, args.seed), Meter(args.requests, args.seconds)
        rng = np.random.default_rng(args.seed)
        with coordinated(tally, ledger, boards, pairs, {}) as (coordinator, _):
            drive(coordinator, rng, requests=WARM_UP, seconds=60.0, meter=meter)
        before, began_s, epochs = sizes(boards), time.monotonic(), 0
        chaos.start()
        end_s, everybody = began_s + args.seconds, True
        try:
            while tally.requests < args.requests and time.monotonic() < end_s:
                ledger.start_run(f"epoch {epochs}")
                with contextlib.ExitStack() as epoch:
                    with chaos.calm():
                        coordinator, client = epoch.enter_context(
                            coordinated(tally, ledger, boards, pairs, false)
                        )
                    seconds = min(args.epoch, end_s - time.monotonic())
                    drive(coordinator, rng, requests=args.requests, seconds=seconds, meter=meter)
                    with chaos.calm():
                        everybody &= all_back(client, args.agents)
                epochs += 1
        finally:
            wall_s = time.monotonic() - began_s
            chaos.end()
        print(
            f"{args.agents} agents, {len(modes)} liars, {wall_s:.0f} s in {epochs} epochs, ", end=""
        )
        print(f"seed {args.seed}. ", end="")
        behind = f"{args.agents // 2} of the true ones are behind links of their own, with keys"
        print(f"FAULTS OF LINKS LEFT OUT: {problem}.\n" if problem else f"{behind}.\n")
        table(chaos, tally, [k for k in KINDS if not (problem and k in LINKS)])
        liars_table(tally, [mode for mode in modes if mode in WRONG])
        good = report(tally, ledger, num_layers=LAYERS, deadline_s=DEADLINE_S)
        print("Coordinator's memory, MB (open files), as it went on: ", end="")
        print(", ".join(f"{rss:.0f} ({files})" for rss, files in meter.looks))
        print(f"Agents' memory, at first and in the end: {before}, {sizes(boards)}.")
        print(f"Agents that ended by themselves: {chaos.aborted}. ", end="")
        print(
            f"At the end of every epoch all true agents were ready: {'yes' if everybody else 'NO'}."
        )
        return 0 if good and everybody and not chaos.aborted else 1


if __name__ == "__main__":
    sys.exit(main())
