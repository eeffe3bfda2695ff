"""What `benchmarks.chaos` counts in all epochs together, and the report of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.coordinator.ledger.store import (
    FaultRow,
    Ledger,
    SelectionRow,
    StepRow,
    TransmissionRow,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siftmoe.coordinator.fleet.status import AgentState


@dataclass
class Tally:
    """Counts of layers and of liars."""

    steps: int = 0
    layers: int = 0
    complete: int = 0
    requests: int = 0
    short_tokens: int = 0
    wrong: int = 0
    worst: float = 0.0
    #: Layers whose output is that of their plan with a liar's lie in it, by mode.
    deceived: Counter[str] = field(default_factory=Counter)
    #: Rows of each liar in the present epoch; of those found by now, at that time.
    rows: Counter[str] = field(default_factory=Counter)
    found: dict[str, list[int]] = field(default_factory=dict)
    unfound: dict[str, list[int]] = field(default_factory=dict)
    #: True agents that were distrusted, once per epoch.
    accused: int = 0
    changes: list[list[tuple[float, AgentState]]] = field(default_factory=list)
    gaps: list[tuple[float, float]] = field(default_factory=list)


def rows_of(ledger: Ledger, kind: type) -> list[Any]:
    """Rows of all epochs."""
    return [row for run in ledger.labels().values() for row in ledger.rows(kind, run=run)]


def report(tally: Tally, ledger: Ledger, *, num_layers: int, deadline_s: float) -> bool:
    """Print what was served; returns True if nothing was wrong or lost."""
    selections, faults = rows_of(ledger, SelectionRow), rows_of(ledger, FaultRow)
    steps = rows_of(ledger, StepRow)
    slots = sum(row.kept + row.replaced + row.skipped for row in selections)
    lost_rows = tally.steps - len(steps) + tally.steps * num_layers - len(selections)
    requests = sum(1 for row in rows_of(ledger, TransmissionRow) if row.direction == "up")
    true = [row for row in faults if row.agent.startswith("a")]
    missed = [row for row in true if row.kind == "DeadlineMissed"]
    tokens = sum(row.tokens for row in steps) * num_layers
    print(f"\n{tally.steps} steps, {tally.layers} layers, {requests} requests.")
    print(f"Faults of true agents: {_kinds(true)}; of liars: {_kinds(faults, but=true)}.")
    print(
        f"Answers of true agents that missed a round's half of the layer's {deadline_s:g} s: "
        f"{len(missed)}. In layers that gave slots up for any fault, {tally.short_tokens} of "
        f"{tokens} tokens went on without one, counted once per layer."
    )
    print(
        f"Layers with all slots: {tally.complete} of {tally.layers}; of {slots} slots "
        f"{sum(row.faulted for row in selections)} lost to faults, "
        f"{sum(row.skipped - row.faulted for row in selections)} skipped for want of a host."
    )
    print(
        f"Longest wait for a failed helper: {max((r.waited_s for r in faults), default=0):.3f} s."
    )
    print(
        f"Wrong outputs, beside those of liars that no sampled row had found yet: {tally.wrong} "
        f"(largest error {tally.worst:.1e}, as a share where outputs are above 1)."
    )
    print(f"Ledger rows lost: {lost_rows}. True agents that were distrusted: {tally.accused}.")
    return not (tally.wrong or lost_rows)


def _kinds(rows: Sequence[Any], *, but: Sequence[Any] = ()) -> str:
    found = Counter(row.kind for row in rows) - Counter(row.kind for row in but)
    return ", ".join(f"{kind} {count}" for kind, count in found.items()) or "none"


def liars_table(tally: Tally, modes: Sequence[str]) -> None:
    """Print what became of agents with wrong results."""
    if not modes:
        return
    print(
        "\n| results | epochs | found | rows until found | layers with a wrong output until then |"
    )
    print("|---|---|---|---|---|")
    for mode in modes:
        found, unfound = tally.found.get(mode, []), tally.unfound.get(mode, [])
        rows = "-"
        if found:
            rows = f"{np.median(found):.0f} / {np.percentile(found, 90):.0f} / {max(found)}"
        if unfound:
            rows += f"; {max(unfound)} and not found"
        print(
            f"| {mode} | {len(found) + len(unfound)} | {len(found)} | {rows} | "
            f"{tally.deceived[mode]} |"
        )
    print(
        "\nOne row in 128 is computed twice, so the rows until a liar is found have the mean 128. "
        "Rows: median / 90th percentile / most. In each epoch a new coordinator begins, which "
        "knows nothing of the liars."
    )
