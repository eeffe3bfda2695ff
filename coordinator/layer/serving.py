"""Serves one expert layer of one step: selects, sends, computes, books, and recovers from faults.

A round states the problem, calls the policy, puts the plan on the air and waits for the results. If
helpers fail, their part is stated as a problem of its own without them and goes through another
round, until all results have arrived, no helper is left, or the layer's deadline is over. Missing
slots are then skipped, at the deviation of a skip, and counted as lost to faults.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siftmoe.coordinator.air.bursts import missing_from, without
from siftmoe.coordinator.layer.books import fault_rows, transmission_rows
from siftmoe.coordinator.layer.checks import check_bursts
from siftmoe.coordinator.layer.recovery import given_up, joined, remainder, unserved
from siftmoe.coordinator.selection.layer_problem import layer_problem, leave_empty
from siftmoe.coordinator.selection.problem import NOBODY, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from siftmoe.coordinator.air.bursts import Bursts
    from siftmoe.coordinator.errors import CoordinatorError
    from siftmoe.coordinator.layer.books import StepSums
    from siftmoe.coordinator.layer.parts import Parts
    from siftmoe.coordinator.links.states import LinkStates
    from siftmoe.coordinator.selection.problem import SelectionPlan, SelectionProblem

    Float32Array = NDArray[np.float32]
    BoolArray = NDArray[np.bool_]

_log = logging.getLogger(__name__)

#: Share of a layer's remaining time that a round may wait; the rest is for other helpers.
SHARE: Final = 0.5
#: With less time left no helper is asked any more: no result would arrive in time.
LEAST_S: Final = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Served:
    """Result of serving a layer.

    Parameters
    ----------
    output : (T, d) float32
    problem : SelectionProblem
    plan : SelectionPlan
        As carried out in all rounds together.
    lost : int
        Slots skipped because their token missed its window on the air.
    faulted : int
        Slots skipped because their helper failed and no other took over.
    excluded : str
        Excluded helpers and links, with reasons.
    """

    output: Float32Array
    problem: SelectionProblem
    plan: SelectionPlan
    lost: int
    faulted: int
    excluded: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Round:
    plan: SelectionPlan
    output: Float32Array
    lost: int
    failures: Mapping[int, CoordinatorError]

    def lacking(self) -> BoolArray:
        """Slots, (T, K), that were sent to failed helpers."""
        return unserved(self.plan, self.failures)

    def closed(self, empty: BoolArray) -> BoolArray:
        """Slots that are not selected again, (T, K), among them those that the air lost."""
        closed: BoolArray = self.plan.helper == NOBODY if self.lost else empty.copy()
        return closed


class LayerRun:
    """One layer of one step.

    Parameters
    ----------
    parts : Parts
    sums : StepSums
        Of the step, added to.
    step, layer : int
    """

    def __init__(self, parts: Parts, *, sums: StepSums, step: int, layer: int) -> None:
        self._parts = parts
        self._sums = sums
        self._step = step
        self._layer = layer
        self._failed: set[int] = set()

    def serve(
        self,
        hidden: Float32Array,
        *,
        routed_experts: NDArray[np.int64],
        gate_weights: NDArray[np.float64],
        empty: BoolArray,
        router_logits: NDArray[np.float64] | None = None,
    ) -> Served:
        """Serve the layer.

        Parameters
        ----------
        hidden : (T, d) float32
        routed_experts, gate_weights, empty : (T, K)
            As `fill_empty_slots` returns them.
        router_logits : (T, E) or None
            Of the model's router, where the policy asks for them.

        Raises
        ------
        AgentUnreachable
            If no helper is ready, and none becomes ready in time.
        """
        parts = self._parts
        parts.dispatcher.attend()
        deadline_s = parts.dispatcher.deadline_s
        end_s = time.monotonic() + deadline_s
        links = parts.links.states(parts.clock.now_s)
        problem = layer_problem(
            parts.tables,
            self._layer,
            routed_experts=routed_experts,
            gate_weights=gate_weights,
            hosts=self._hosts(links),
            known=parts.known(),
            answers=parts.answers(),
            pricing=parts.air.pricing(links, len(hidden)),
            router_logits=router_logits,
        )
        excluded = parts.excluded(links)
        first = self._round(problem, links, hidden, empty=empty, left_s=deadline_s)
        if not first.failures:
            return Served(
                output=first.output,
                problem=problem,
                plan=first.plan,
                lost=first.lost,
                faulted=0,
                excluded=excluded,
            )
        return self._recover(problem, first, hidden, empty=empty, end_s=end_s)

    def _recover(
        self,
        problem: SelectionProblem,
        first: _Round,
        hidden: Float32Array,
        *,
        empty: BoolArray,
        end_s: float,
    ) -> Served:
        """Request missing results from other helpers, while there are any and time is left."""
        parts, plan, lost = self._parts, first.plan, first.lost
        output, wanted = first.output, first.plan.helper != NOBODY
        lacking, closed = first.lacking(), first.closed(empty)
        links = parts.links.states(parts.clock.now_s)
        while lacking.any():
            hosts, left_s = self._hosts(links), end_s - time.monotonic()
            if left_s < LEAST_S or not hosts.any():
                plan = given_up(problem, plan, lacking)
                break
            rest = remainder(problem, plan, lacking, closed=closed)
            rows = rest.rows
            pricing = parts.air.pricing(links, len(rows))
            again = self._round(
                rest.problem(problem, hosts=hosts, pricing=pricing),
                links,
                hidden[rows],
                empty=~rest.open,
                left_s=left_s,
            )
            output[rows] += again.output
            plan = joined(problem, plan, rest, again.plan)
            lost += again.lost
            lacking = np.zeros_like(lacking)
            lacking[rows] = again.lacking()
            closed[rows] = again.closed(closed[rows])
            links = parts.links.states(parts.clock.now_s)
        return Served(
            output=output,
            problem=problem,
            plan=plan,
            lost=lost,
            faulted=int(np.count_nonzero(wanted & (plan.helper == NOBODY))),
            excluded=parts.excluded(links),
        )

    def _hosts(self, links: LinkStates) -> BoolArray:
        """Which usable helper holds which expert, (N, E)."""
        parts = self._parts
        able = links.available() & parts.known().any(axis=1)  # [N]
        hosts = parts.fleet.hosts(self._layer) & able[:, np.newaxis]
        hosts[list(self._failed)] = False
        return hosts

    def _round(
        self,
        problem: SelectionProblem,
        links: LinkStates,
        hidden: Float32Array,
        *,
        empty: BoolArray,
        left_s: float,
    ) -> _Round:
        parts, sums = self._parts, self._sums

        def select(problem: SelectionProblem) -> SelectionPlan:
            return leave_empty(parts.policy(problem), empty, num_experts=problem.num_experts)

        plan = select(problem)
        self._warn_infeasible(plan, links)
        sent = parts.air.transfer(problem, plan, links, policy=select)
        for bursts in (sent.up, sent.down):
            check_bursts(bursts, parts.fleet.names)
        try:
            result = parts.dispatcher.attempt(
                sent.plan,
                hidden,
                layer=self._layer,
                reply_width=parts.air.reply_width,
                deadline_s=SHARE * left_s,
                usual_norm=parts.tables[self._layer].usual_norm(),
            )
        except BaseException:  # also an interrupt: the energy is spent
            self._book(sent.up, links)
            raise
        failures = result.failures
        self._failed.update(failures)
        self._book(missing_from(sent.up, failures), links)
        self._book(without(sent.down, failures), links)
        for row in fault_rows(sent.plan, result, **self._where(), now_s=parts.clock.now_s):
            parts.ledger.add(row)
        latency_s = parts.air.latency_s(sent.up, sent.down)
        sums.latency_s += latency_s
        sums.airtime_s += parts.air.airtime_s(sent.up, sent.down)
        sums.solve_s += sent.plan.solve_s
        sums.queue_s += result.queue_s
        sums.compute_s += result.compute_s
        parts.clock.advance(latency_s)
        return _Round(plan=sent.plan, output=result.output, lost=sent.lost, failures=failures)

    def _warn_infeasible(self, plan: SelectionPlan, links: LinkStates) -> None:
        """Log that no plan keeps the budget, once per reason."""
        if plan.status is not Status.INFEASIBLE:
            return
        reason = self._parts.excluded(links) or "nobody"
        if reason not in self._parts.warned:
            self._parts.warned.add(reason)
            _log.warning(
                "step %d, layer %d: no plan keeps the budget; least deviation taken, from now on "
                "as often as it happens. Left out: %s",
                self._step,
                self._layer,
                reason,
            )

    def _where(self) -> dict[str, Any]:
        return {"agents": self._parts.fleet.names, "step": self._step, "layer": self._layer}

    def _book(self, bursts: Bursts, links: LinkStates) -> None:
        now_s = self._parts.clock.now_s
        for row in transmission_rows(bursts, links, **self._where(), now_s=now_s):
            self._parts.ledger.add(row)
