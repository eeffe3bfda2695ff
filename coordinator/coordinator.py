"""Coordinator of a run: turns every expert layer of the model into a selection and a dispatch.

`siftmoe.coordinator.layer.serving` serves each layer of each forward pass; this module separates
real rows from padding, books the selection, and begins and ends steps. Simulated links use a
virtual clock, which airtime and nominal compute advance; links that radios sound use a real one.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.coordinator.clock import VirtualClock
from siftmoe.coordinator.errors import LedgerError
from siftmoe.coordinator.layer.audit import audit
from siftmoe.coordinator.layer.books import StepSums, selection_row
from siftmoe.coordinator.layer.checks import check_rows
from siftmoe.coordinator.layer.parts import Parts
from siftmoe.coordinator.layer.serving import LayerRun
from siftmoe.coordinator.model.experts import attach
from siftmoe.coordinator.model.steps import StepHooks
from siftmoe.coordinator.selection.layer_problem import fill_empty_slots

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from siftmoe.coordinator.air.protocol import Air
    from siftmoe.coordinator.clock import Clock
    from siftmoe.coordinator.layer.audit import Audited
    from siftmoe.coordinator.layer.parts import Dispatch, Helpers, LayerOutput
    from siftmoe.coordinator.layer.serving import Served
    from siftmoe.coordinator.ledger.rows import StepRow
    from siftmoe.coordinator.ledger.store import Ledger
    from siftmoe.coordinator.links.states import Links
    from siftmoe.coordinator.selection.policy import Policy
    from siftmoe.coordinator.selection.tables import LayerTables

_log = logging.getLogger(__name__)


class Coordinator:
    """Runs a model's expert layers on a fleet.

    Parameters
    ----------
    fleet : Helpers
    dispatcher : Dispatch
    links : Links
    air : Air
    policy : callable
        ``select(problem) -> plan``.
    tables : sequence of LayerTables, one per expert layer
    ledger : Ledger
    clock : Clock or None
        Time of the run; by default virtual, from 0.
    reference : LayerOutput or None
        Recomputes every layer undivided; the measured deviation is then booked.
    reads_router : bool
        Whether the policy asks for the logits of the model's router.
    """

    def __init__(
        self,
        *,
        fleet: Helpers,
        dispatcher: Dispatch,
        links: Links,
        air: Air,
        policy: Policy,
        tables: Sequence[LayerTables],
        ledger: Ledger,
        clock: Clock | None = None,
        reference: LayerOutput | None = None,
        reads_router: bool = False,
    ) -> None:
        self._reads_router = reads_router
        self.ledger = ledger
        self._parts = Parts(
            fleet=fleet,
            dispatcher=dispatcher,
            links=links,
            air=air,
            policy=policy,
            tables=tables,
            ledger=ledger,
            clock=VirtualClock() if clock is None else clock,
        )
        self._reference = reference
        self._hooks: StepHooks | None = None
        self._step: StepSums | None = None
        self._step_number = -1
        self._unbooked: StepRow | None = None

    @property
    def now_s(self) -> float:
        """Time of the run."""
        return self._parts.clock.now_s

    def attach(self, model: Any) -> None:
        """Serve the expert layers of a model, and hook its forward passes."""
        attach(model, self.run_layer, with_logits=self._reads_router)
        self._hooks = StepHooks(model, self)

    def detach(self) -> None:
        """Remove the hooks of the model's forward passes; its layers then need another coordinator.

        A step that an interrupt left open is booked as aborted.
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
        """Start the sums of one forward pass.

        Raises
        ------
        LedgerError
            If the step before could not be booked, and still cannot be.
        """
        if self._unbooked is not None:
            self.ledger.commit(self._unbooked)
            self._unbooked = None
        self._step_number += 1
        self._step = StepSums(
            prefill=prefill, tokens=tokens, began_s=self.now_s, wall_began_s=time.perf_counter()
        )

    def end_step(self, *, failed: bool) -> None:
        """Book the step; an aborted one is booked as aborted, because its energy is spent."""
        step, self._step = self._step, None
        if step is None:
            return
        wall_s = time.perf_counter() - step.wall_began_s
        row = step.row(self._step_number, wall_s=wall_s, aborted=failed)
        try:
            self.ledger.commit(row)
        except (LedgerError, ValueError) as error:
            if not failed and isinstance(error, LedgerError):
                self._unbooked = row  # its energy is spent: booked before the next step, or never
                raise
            self.ledger.discard()
            if not failed:
                raise
            # The error that aborted the step is the one to report.
            _log.exception("step %d broke off and cannot be booked", self._step_number)

    def run_layer(
        self,
        layer: int,
        hidden: NDArray[np.float32],
        *,
        routed_experts: NDArray[np.int64],
        gate_weights: NDArray[np.float64],
        router_logits: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float32]:
        """Serve one layer; see `LayerOutput`. Padding and rows of empty slots are not sent.

        ``router_logits`` (T, E) are those of the model's router, for policies that ask for them.
        """
        step = self._step
        elsewhere = self._hooks is not None and self._hooks.running_elsewhere()
        if step is None or elsewhere:
            raise ValueError(
                "an expert layer ran outside a forward pass of the attached model, or in another "
                "thread than its pass; call the model, or its base model, as a whole"
            )
        began = time.perf_counter()
        num_experts = self._parts.tables[layer].deviation.shape[0]
        rows = _rows_to_send(self._hooks, routed_experts, num_experts)
        output = np.zeros_like(hidden)
        if rows.size:
            states = hidden[rows]
            routed, weights, empty = fill_empty_slots(
                routed_experts[rows], gate_weights[rows], num_experts=num_experts
            )
            check_rows(layer, rows, states, weights)
            try:
                output[rows] = self._serve(
                    step,
                    layer,
                    states,
                    routed_experts=routed,
                    gate_weights=weights,
                    empty=empty,
                    router_logits=None if router_logits is None else router_logits[rows],
                )
            except BaseException as error:
                if self._hooks is not None and not isinstance(error, Exception):
                    self._hooks.interrupted()
                raise
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
        router_logits: NDArray[np.float64] | None,
    ) -> NDArray[np.float32]:
        run = LayerRun(self._parts, sums=step, step=self._step_number, layer=layer)
        served = run.serve(
            hidden,
            routed_experts=routed_experts,
            gate_weights=gate_weights,
            empty=empty,
            router_logits=router_logits,
        )
        self.ledger.add(
            selection_row(
                served.problem,
                served.plan,
                step=self._step_number,
                layer=layer,
                excluded=served.excluded,
                audited=self._audit(layer, hidden, served),
                lost=served.lost,
                faulted=served.faulted,
            )
        )
        return served.output

    def _audit(self, layer: int, hidden: NDArray[np.float32], served: Served) -> Audited | None:
        if self._reference is None:
            return None
        undivided = self._reference(
            layer,
            hidden,
            routed_experts=served.problem.routed_experts,
            gate_weights=served.problem.gate_weights,
        )
        table = self._parts.tables[layer]
        return audit(served.output, undivided, plan=served.plan, table=table)


def _rows_to_send(
    hooks: StepHooks | None, routed_experts: NDArray[np.int64], num_experts: int
) -> NDArray[np.int64]:
    """Rows that are real tokens with a routed expert."""
    send: NDArray[np.bool_] = np.any(routed_experts < num_experts, axis=1)
    real = None if hooks is None else hooks.real_rows(len(send))
    rows: NDArray[np.int64] = np.flatnonzero(send if real is None else send & real)
    return rows
