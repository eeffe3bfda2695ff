"""Observers of `benchmarks.chaos`: changes of state, expected outputs, gaps in polling."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.coordinator import Coordinator
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.coordinator.selection.problem import NOBODY
from tests.bundles import reference
from tests.liars import WRONG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.chaos.strikes import Strike
    from benchmarks.chaos.tally import Tally
    from siftmoe.coordinator.layer.serving import Served

TOLERANCE: Final = 1e-3
#: A change of state within this time after a strike is attributed to it.
GRACE_S: Final = 0.2
#: A computing coordinator polls its connections at shorter intervals than this.
GAP_S: Final = 0.005


class Watched(Fleet):
    """A fleet that records when its agents' states change, in a tally."""

    def __init__(self, tally: Tally, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        tally.changes.extend([] for _ in range(len(self) - len(tally.changes)))
        self.changes = tally.changes

    def set_state(self, index: int, state: AgentState, **options: Any) -> None:
        """Record a state that is not ready."""
        super().set_state(index, state, **options)
        self.changes[index].append((time.monotonic(), state))

    def welcome(self, index: int, hello: Any, *, now_s: float) -> bool:
        """Record that an agent is ready."""
        good = super().welcome(index, hello, now_s=now_s)
        self.changes[index].append((time.monotonic(), self[index].state))
        return good


class WatchedClient(Client):
    """A client that records the gaps between its polls, in a tally."""

    def __init__(self, tally: Tally, *args: Any, **options: Any) -> None:
        self._looked_s = 0.0
        self.gaps = tally.gaps
        super().__init__(*args, **options)

    def _take_in(self, timeout_s: float) -> None:
        now_s = time.monotonic()
        if self._looked_s and now_s - self._looked_s > GAP_S:
            self.gaps.append((self._looked_s, now_s))
        super()._take_in(timeout_s)
        self._looked_s = time.monotonic()


def unwatched_s(tally: Tally, begin_s: float, end_s: float) -> float:
    """Return how much of a time span was not polled."""
    return sum(max(0.0, min(b, end_s) - max(a, begin_s)) for a, b in tally.gaps)


class Checked(Coordinator):
    """A coordinator whose outputs are compared with the results of their plans."""

    shape: Any  # of the model, set before use
    tally: Tally
    fleet: Watched
    liars: dict[int, str]  # helper -> mode, of those with wrong results

    def _audit(self, layer: int, hidden: np.ndarray, served: Served) -> None:
        plan, problem, tally = served.plan, served.problem, self.tally
        kept = plan.helper != NOBODY
        if not (plan.expert == np.where(kept, problem.routed_experts, problem.num_experts)).all():
            tally.wrong += 1  # Top-K has no stand-ins
        wanted = self._sum(layer, hidden, served, kept)
        lying = [n for n in self.liars if (plan.helper == n).any()]
        if any(self.fleet[n].state is AgentState.DISTRUSTED for n in lying):
            tally.wrong += 1  # it was found, and is used
        error = _error(served.output, wanted)
        if error > TOLERANCE and lying:
            for n in lying:
                part = self._sum(layer, hidden, served, plan.helper == n)
                wanted += WRONG[self.liars[n]](part) - part
            error = _error(served.output, wanted)
            tally.deceived.update(self.liars[n] for n in lying)
        for n in lying:
            tally.rows[self.liars[n]] += int((plan.helper == n).any(axis=1).sum())
        tally.worst = max(tally.worst, error)
        tally.wrong += error > TOLERANCE
        tally.complete += bool(kept.all())
        tally.layers += 1
        tally.requests += len(set(plan.helper[kept].tolist()))
        if served.faulted:
            tally.short_tokens += int((~kept).any(axis=1).sum())

    def _sum(self, layer: int, hidden: np.ndarray, served: Served, slots: Any) -> np.ndarray:
        """Sum over some slots of a plan, (T, d), in float64."""
        problem, total = served.problem, np.zeros(hidden.shape)
        for e in range(problem.num_experts):
            mine = (slots & (problem.routed_experts == e)) * problem.gate_weights  # [T, K]
            if mine.any():
                output = reference(self.shape, layer, e, hidden.astype(np.float64))
                total += mine.sum(axis=1)[:, None] * output
        return total


def _error(output: np.ndarray, wanted: np.ndarray) -> float:
    """Largest error, as a share where outputs are above 1."""
    return float((np.abs(output - wanted) / np.maximum(1.0, np.abs(wanted))).max())


@dataclass(frozen=True, slots=True)
class Seen:
    """A coordinator's reaction to one strike at an agent in use.

    Parameters
    ----------
    noticed_s : float or None, s
        Time after the strike; None if the agent was never left out for it.
    back_s : float or None, s
        Time from the end of the cause until the agent was ready.
    """

    strike: Strike
    noticed_s: float | None
    back_s: float | None


def seen(strikes: Sequence[Strike], tally: Tally, kind: str) -> list[Seen]:
    """Return the reactions to the strikes of one kind, without agents that were not in use.

    An agent is not in use until the coordinator has readmitted it after the previous strike; its
    next failure cannot be noticed before.
    """
    found = []
    for strike in strikes:
        changes = tally.changes[strike.board]
        before = [state for at, state in changes if at < strike.began_s]
        if strike.kind != kind or not before or before[-1] is not AgentState.READY:
            continue
        next_s = min(
            (s.began_s for s in strikes if s.board == strike.board and s.began_s > strike.began_s),
            default=float("inf"),
        )
        end_s = min(next_s, strike.over_s + GRACE_S)
        gone = [
            at
            for at, state in changes
            if strike.began_s <= at < end_s and state is not AgentState.READY
        ]
        if not gone:
            found.append(Seen(strike, None, None))
            continue
        ready = [at for at, s in changes if s is AgentState.READY and gone[0] < at < next_s]
        after = [at for at in ready if at >= strike.over_s] or ready[-1:]
        back_s = max(0.0, after[0] - strike.over_s) if after else None
        found.append(Seen(strike, gone[0] - strike.began_s, back_s))
    return found
