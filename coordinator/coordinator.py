"""The coordinator of a run: every expert layer of the model becomes a selection and a dispatch.

For each layer of each forward pass it asks the links for their state, states the selection
problem, lets the policy solve it, sends the hidden states to the chosen helpers and books what was
transmitted. Simulated links live on a virtual clock, which airtime and nominal compute advance;
links that radios sound live on a real one.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.coordinator.audit import audit
from siftmoe.coordinator.books import StepSums, selection_row, transmission_rows
from siftmoe.coordinator.clock import VirtualClock
from siftmoe.coordinator.errors import LedgerError
from siftmoe.coordinator.experts import attach
from siftmoe.coordinator.problems import fill_empty_slots, layer_problem, leave_empty
from siftmoe.coordinator.selection import Status
from siftmoe.coordinator.steps import StepHooks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from siftmoe.coordinator.airtime import AirInterface, Bursts
    from siftmoe.coordinator.audit import Audited
    from siftmoe.coordinator.clock import Clock
    from siftmoe.coordinator.ledger import Ledger
    from siftmoe.coordinator.links import Links, LinkStates
    from siftmoe.coordinator.parts import Dispatch, Helpers, LayerOutput
    from siftmoe.coordinator.policies.registry import Policy
    from siftmoe.coordinator.problems import LayerTables
    from siftmoe.coordinator.selection import SelectionPlan, SelectionProblem

_log = logging.getLogger(__name__)


class Coordinator:
    """Runs a model's expert layers on a fleet.

    Parameters
    ----------
    fleet : Helpers
    dispatcher : Dispatch
    links : Links
    air : AirInterface
    policy : callable
        ``select(problem) -> plan``.
    tables : sequence of LayerTables, one per expert layer
    ledger : Ledger
    clock : Clock or None
        Time of the run; by default virtual, from 0.
    reference : LayerOutput or None
        Recomputes every layer undivided; the deviation really made is then booked.
    """

    def __init__(
        self,
        *,
        fleet: Helpers,
        dispatcher: Dispatch,
        links: Links,
        air: AirInterface,
        policy: Policy,
        tables: Sequence[LayerTables],
        ledger: Ledger,
        clock: Clock | None = None,
        reference: LayerOutput | None = None,
    ) -> None:
        self.ledger = ledger
        self._fleet = fleet
        self._dispatcher = dispatcher
        self._links = links
        self._air = air
        self._policy = policy
        self._tables = tables
        self._clock = VirtualClock() if clock is None else clock
        self._reference = reference
        self._hooks: StepHooks | None = None
        self._step: StepSums | None = None
        self._step_number = -1

    @property
    def now_s(self) -> float:
        """Time of the run."""
        return self._clock.now_s

    def attach(self, model: Any) -> None:
        """Serve the expert layers of a model, and follow its forward passes."""
        attach(model, self.run_layer)
        self._hooks = StepHooks(model, self)

    def detach(self) -> None:
        """Stop following the model's forward passes; its layers wait for another coordinator.

        A step that an interrupt left open is booked as broken off.
        """
        if self._hooks is not None:
            self._hooks.remove()
            self._hooks = None
        if self._step is not None:
            self.end_step(failed=True)

    @contextmanager
    def attached(self, model: Any) -> Iterator[None]:
        """Serve a model while the block runs."""
        self.attach(model)
        try:
            yield
        finally:
            self.detach()

    def begin_step(self, *, tokens: int, prefill: bool) -> None:
        """Open the books for one forward pass."""
        self._step_number += 1
        self._step = StepSums(
            prefill=prefill, tokens=tokens, began_s=self.now_s, wall_began_s=time.perf_counter()
        )

    def end_step(self, *, failed: bool) -> None:
        """Close them; a step that broke off is written as such, for its energy is spent."""
        step, self._step = self._step, None
        if step is None:
            return
        try:
            wall_s = time.perf_counter() - step.wall_began_s
            self.ledger.commit(step.row(self._step_number, wall_s=wall_s, aborted=failed))
        except LedgerError:
            if not failed:
                raise
            # The error that broke the step off is the one to be seen.
            _log.exception("step %d broke off and cannot be booked", self._step_number)
            self.ledger.discard()

    def run_layer(
        self,
        layer: int,
        hidden: NDArray[np.float32],
        *,
        routed_experts: NDArray[np.int64],
        gate_weights: NDArray[np.float64],
    ) -> NDArray[np.float32]:
        """Serve one layer; see `LayerOutput`. Padding, and rows of empty slots, are not sent."""
        step = self._step
        if step is None:
            raise ValueError("an expert layer ran outside a forward pass of the attached model")
        began = time.perf_counter()
        num_experts = self._tables[layer].deviation.shape[0]
        rows = _rows_to_send(self._hooks, routed_experts, num_experts)
        output = np.zeros_like(hidden)
        if rows.size:
            routed, weights, empty = fill_empty_slots(
                routed_experts[rows], gate_weights[rows], num_experts=num_experts
            )
            output[rows] = self._serve(
                step, layer, hidden[rows], routed_experts=routed, gate_weights=weights, empty=empty
            )
        step.layers_wall_s += time.perf_counter() - began
        return output

    def _serve(
        self,
        step: StepSums,
        layer: int,
        hidden: NDArray[np.float32],
        *,
        routed_experts: NDArray[np.int64],
        gate_weights: NDArray[np.float64],
        empty: NDArray[np.bool_],
    ) -> NDArray[np.float32]:
        links = self._links.states(self.now_s)
        problem = layer_problem(
            self._tables,
            layer,
            routed_experts=routed_experts,
            gate_weights=gate_weights,
            hosts=self._fleet.hosts(layer) & links.available()[:, np.newaxis],
            energy=self._air.energy_table(links, len(hidden)),
        )

        def select(problem: SelectionProblem) -> SelectionPlan:
            return leave_empty(self._policy(problem), empty, num_experts=problem.num_experts)

        plan = select(problem)
        if plan.status is Status.INFEASIBLE:
            _log.warning(
                "step %d, layer %d: no plan keeps the budget; least deviation taken. Left out: %s",
                self._step_number,
                layer,
                self._excluded(links) or "nobody",
            )
        sent = self._air.transfer(problem, plan, links, policy=select)
        plan, up, down = sent.plan, sent.up, sent.down
        self._book_bursts(up, links, layer)  # spent, whatever becomes of the answer
        result = self._dispatcher.run(plan, hidden, layer=layer)
        audited = self._audit(layer, hidden, problem, plan, result.output)
        self.ledger.add(
            selection_row(
                problem,
                plan,
                step=self._step_number,
                layer=layer,
                excluded=self._excluded(links),
                audited=audited,
                lost=sent.lost,
            )
        )
        self._book_bursts(down, links, layer)
        latency_s = self._air.latency_s(up, down)
        step.latency_s += latency_s
        step.airtime_s += self._air.airtime_s(up, down)
        step.solve_s += plan.solve_s
        step.queue_s += result.queue_s
        step.compute_s += result.compute_s
        self._clock.advance(latency_s)
        return result.output

    def _excluded(self, links: LinkStates) -> str:
        return "; ".join(text for text in (self._fleet.excluded(), links.lost_text()) if text)

    def _audit(
        self,
        layer: int,
        hidden: NDArray[np.float32],
        problem: SelectionProblem,
        plan: SelectionPlan,
        output: NDArray[np.float32],
    ) -> Audited | None:
        if self._reference is None:
            return None
        undivided = self._reference(
            layer,
            hidden,
            routed_experts=problem.routed_experts,
            gate_weights=problem.gate_weights,
        )
        return audit(output, undivided, plan=plan, table=self._tables[layer])

    def _book_bursts(self, bursts: Bursts, links: LinkStates, layer: int) -> None:
        rows = transmission_rows(
            bursts,
            links,
            agents=self._fleet.names,
            step=self._step_number,
            layer=layer,
            now_s=self.now_s,
        )
        for row in rows:
            self.ledger.add(row)


def _rows_to_send(
    hooks: StepHooks | None, routed_experts: NDArray[np.int64], num_experts: int
) -> NDArray[np.int64]:
    """Rows that are real tokens with a routed expert."""
    send: NDArray[np.bool_] = np.any(routed_experts < num_experts, axis=1)
    real = None if hooks is None else hooks.real_rows(len(send))
    rows: NDArray[np.int64] = np.flatnonzero(send if real is None else send & real)
    return rows
