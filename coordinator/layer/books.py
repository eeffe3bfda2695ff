"""Makes ledger rows from steps, and from the selections, bursts and faults of their layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from siftmoe.coordinator.ledger.rows import FaultRow, SelectionRow, StepRow, TransmissionRow
from siftmoe.radio.channel.link import Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from siftmoe.coordinator.air.interface import Bursts
    from siftmoe.coordinator.layer.audit import Audited
    from siftmoe.coordinator.layer.parts import Computation
    from siftmoe.coordinator.links.states import LinkStates
    from siftmoe.coordinator.selection.problem import SelectionPlan, SelectionProblem


@dataclass(slots=True)
class StepSums:
    """Sums over the layers of the running step, in seconds."""

    prefill: bool
    tokens: int
    began_s: float
    wall_began_s: float
    airtime_s: float = 0.0
    latency_s: float = 0.0
    solve_s: float = 0.0
    queue_s: float = 0.0
    compute_s: float = 0.0
    layers_wall_s: float = 0.0

    def row(self, step: int, *, wall_s: float, aborted: bool) -> StepRow:
        """Row of the step, which took ``wall_s``; time outside its layers counts as backbone."""
        return StepRow(
            step=step,
            kind="prefill" if self.prefill else "decode",
            time_s=self.began_s,
            tokens=self.tokens,
            latency_s=self.latency_s,
            airtime_s=self.airtime_s,
            solve_s=self.solve_s,
            queue_s=self.queue_s,
            compute_s=self.compute_s,
            backbone_s=wall_s - self.layers_wall_s,
            wall_s=wall_s,
            aborted=aborted,
        )


def selection_row(
    problem: SelectionProblem,
    plan: SelectionPlan,
    *,
    step: int,
    layer: int,
    excluded: str,
    audited: Audited | None,
    lost: int = 0,
    faulted: int = 0,
) -> SelectionRow:
    """Row of one layer's selection.

    Parameters
    ----------
    problem : SelectionProblem
    plan : SelectionPlan
    step, layer : int
    excluded : str
        Excluded helpers, with reasons.
    audited : Audited or None
        Deviation measured against the undivided layer.
    lost : int
        Slots that the plan skips because their token missed its window.
    faulted : int
        Slots that it skips because their helper failed.
    """
    kept, replaced, skipped = plan.decisions(problem)
    return SelectionRow(
        step=step,
        layer=layer,
        kept=kept,
        replaced=replaced,
        skipped=skipped,
        predicted_energy_j=plan.energy_j,
        lower_bound_j=plan.lower_bound_j,
        status=plan.status.value,
        deviation_bound_mean=float(plan.deviation.mean()),
        deviation_bound_max=float(plan.deviation.max()),
        measured_deviation=None if audited is None else audited.mean,
        solve_s=plan.solve_s,
        excluded=excluded,
        within_bound=None if audited is None else audited.within_bound,
        lost=lost,
        faulted=faulted,
    )


def fault_rows(
    plan: SelectionPlan,
    done: Computation,
    *,
    agents: Sequence[str],
    step: int,
    layer: int,
    now_s: float,
) -> Iterator[FaultRow]:
    """One row per failed helper.

    Parameters
    ----------
    plan : SelectionPlan
        Contains the slots that they should have served.
    done : Computation
    agents : sequence of str
        Names by helper index.
    step, layer : int
    now_s : float, s
    """
    for n, error in sorted(done.failures.items()):
        yield FaultRow(
            time_s=now_s,
            step=step,
            layer=layer,
            agent=agents[n],
            kind=type(error).__name__,
            reason=str(error),
            slots=int((plan.helper == n).sum()),
            waited_s=done.given_up_s[n],
        )


def transmission_rows(
    bursts: Bursts,
    links: LinkStates,
    *,
    agents: Sequence[str],
    step: int,
    layer: int,
    now_s: float,
) -> Iterator[TransmissionRow]:
    """One row per burst.

    Power and airtime follow from the link's rate model and are labelled ``modelled``; the
    uncertainty of the energy is that of the channel gain, since E is proportional to 1/g.

    Parameters
    ----------
    bursts : Bursts
    links : LinkStates
        States on which the bursts were planned.
    agents : sequence of str
        Names by helper index.
    step, layer : int
    now_s : float, s
    """
    for i, n in enumerate(bursts.helper):
        state = links.channel_state(int(n), bursts.direction)
        relative_std = state.gain_std / state.gain
        yield TransmissionRow(
            time_s=now_s,
            step=step,
            layer=layer,
            agent=agents[n],
            direction=bursts.direction,
            tokens=int(bursts.tokens[i]),
            payload_bits=float(bursts.payload_bits[i]),
            tx_power_w=float(bursts.tx_power_w[i]),
            tx_power_std_w=float(bursts.tx_power_w[i]) * relative_std,
            power_source=Source.MODELLED,
            airtime_s=float(bursts.airtime_s[i]),
            airtime_source=Source.MODELLED,
            energy_j=float(bursts.energy_j[i]),
            energy_std_j=float(bursts.energy_j[i]) * relative_std,
            rate_bps=float(bursts.rate_bps[i]),
            channel_gain=state.gain,
            gain_std=state.gain_std,
            channel_age_s=state.age_s(now_s),
            channel_origin=state.origin,
            missed=int(bursts.missed[i]),
            widths=" ".join(
                f"{width}:{count}"
                for width, count in zip(bursts.width, bursts.by_width[i], strict=True)
                if count
            ),
            control_bits=float(bursts.control_bits[i]),
            control_j=float(bursts.control_j[i]),
            circuit_tx_j=float(bursts.circuit_tx_j[i]),
            circuit_rx_j=float(bursts.circuit_rx_j[i]),
            heard=(
                ""
                if bursts.heard is None
                else " ".join(agents[m] for m in bursts.heard[i].nonzero()[0])
            ),
        )
