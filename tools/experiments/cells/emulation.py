"""Runs a cell in this process: real selection, experts and ledger; no socket and no radio.

The coordinator, the policies, the links, the energies and the ledger are those of a run on agents;
only the experts are computed in this process (`siftmoe.tools.comparing.inprocess`).
"""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from siftmoe.coordinator.air.assembly import PAPER_BITS_PER_HERTZ, air_interface, payload_of
from siftmoe.coordinator.air.operating_points import REFERENCE_WIDTH
from siftmoe.coordinator.air.slotted import SlottedAir
from siftmoe.coordinator.config.radio import RadioEntry
from siftmoe.coordinator.coordinator import Coordinator
from siftmoe.coordinator.ledger.store import Ledger, SelectionRow, StepRow, TransmissionRow
from siftmoe.coordinator.links.sources import SIMULATED, links_of
from siftmoe.coordinator.policies.setup import prepare_policy
from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.coordinator.selection.widths import Widths
from siftmoe.models.similarity.file import rotation_of
from siftmoe.models.tasks.task import GenerationTask
from siftmoe.models.vectors.packing import row_bits
from siftmoe.radio.channel.link import transmit_energy
from siftmoe.tools.bundles import open_model
from siftmoe.tools.comparing.inprocess import AllReady, ExpertsInProcess
from siftmoe.tools.comparing.job import load_profile
from siftmoe.tools.experiments.cells.placing import PLACING_PRICE, placed_hosts
from siftmoe.tools.experiments.cells.probe import Probe
from siftmoe.tools.experiments.cells.records import PLACEMENTS, TYPICAL_CIRCUITS, TaskRecord
from siftmoe.tools.results.breakdown import breakdown_of
from siftmoe.tools.results.width_mix import mean_bits, mix_of

if TYPE_CHECKING:
    from siftmoe.coordinator.air.interface import AirInterface
    from siftmoe.coordinator.links.states import Links, LinkStates
    from siftmoe.coordinator.model.session import Session
    from siftmoe.models.bundle.reader import Bundle
    from siftmoe.models.similarity.profile import Profile
    from siftmoe.models.tasks.task import Task
    from siftmoe.tools.experiments.cells.records import Setting

_FLOATS = Widths()
_SIDES = ("user", "helper")


@dataclass(frozen=True, kw_only=True)
class Emulation:
    """A model with all its experts in this process; opened once and used for many cells."""

    bundle: Bundle
    profile: Profile | None
    session: Session
    experts: ExpertsInProcess

    @classmethod
    def open(cls, model: str) -> Emulation:
        """Open a model as `open_model` does."""
        from siftmoe.coordinator.model.session import Session

        bundle = open_model(model)
        return cls(
            bundle=bundle,
            profile=load_profile(bundle),
            session=Session(bundle.load_backbone(), bundle.load_tokenizer()),
            experts=ExpertsInProcess(bundle, rotation=rotation_of(bundle)),
        )

    def run(
        self,
        policy: PolicySpec,
        setting: Setting,
        task: Task | GenerationTask,
        *,
        seed: int,
        batch_size: int,
    ) -> TaskRecord:
        """Evaluate a task under one policy and sum up its ledger.

        Parameters
        ----------
        policy : PolicySpec
        setting : Setting
        task : Task or GenerationTask
        seed : int
            Of the links.
        batch_size : int
            Sequences of one prefill: all their tokens see one channel state per layer.
        """
        links = _links(setting, seed)
        prepared = prepare_policy(
            policy,
            shape=self.bundle.shape,
            profile=self.profile,
            links=lambda: links.states(coordinator.now_s),
            air=lambda: air,
        )
        air = self.air(setting, prepared.widths, seed)
        probe = Probe(
            prepared.select,
            links=links,
            air=air,
            num_layers=self.bundle.shape.num_layers,
            coherence_time_s=setting.coherence_time_s,
        )
        with (
            tempfile.TemporaryDirectory() as folder,
            Ledger.create(Path(folder) / "cell.sqlite") as ledger,
        ):
            coordinator = Coordinator(
                fleet=self._fleet(setting),
                dispatcher=self.experts,
                links=probe,
                air=air,
                policy=probe.select,
                tables=prepared.tables,
                ledger=ledger,
                reference=self.experts.undivided if setting.audit else None,
                reads_router=prepared.reads_router,
            )
            began = time.perf_counter()
            with coordinator.attached(self.session.model):
                result = self.session.evaluate(task, batch_size=batch_size)
            metrics = {
                name: (metric.value, metric.standard_error or 0.0)
                for name, metric in result.metrics.items()
            }
            layers = _audited_layers(ledger, probe) if setting.audit else ()
            return _record(
                task.name,
                metrics,
                ledger,
                probe,
                mean_gain=float(_middle_link(setting).uplink_gain[0]),
                layers=layers,
                documents=result.documents,
                wall_s=time.perf_counter() - began,
            )

    def air(self, setting: Setting, widths: Widths = _FLOATS, seed: int = 0) -> AirInterface:
        """Air interface of a setting; the seed draws the later blocks of fast fading."""
        entries = setting.hidden_size or self._hidden_size
        deadline_s = setting.deadline_s or row_bits(entries, REFERENCE_WIDTH) / (
            setting.bandwidth_hz * PAPER_BITS_PER_HERTZ
        )
        air = air_interface(_radio(setting, 0), self.bundle.shape, widths)
        air = replace(
            air,
            deadline_per_layer=setting.deadline_per == "layer",
            **payload_of(entries, widths),
            token_deadline_s=deadline_s,
            compute_s_per_token=air.compute_s_per_token if setting.with_compute else 0.0,
            shared_window=setting.shared_window,
        )
        if not setting.slots:
            return air
        return SlottedAir.over(
            air,
            slots=setting.slots,
            selection=setting.selection,
            outage_price=setting.outage_price,
            mean=_mean_links(setting),
            rng=np.random.default_rng((seed, setting.slots)),
        )

    def unit_j(self, setting: Setting) -> float:
        """Energy of one token over one link at its mean gain, J: the unit of prices."""
        air, states = self.air(setting), _middle_link(setting)
        if setting.circuits:
            return float(air.pricing(states, 1).energy_j[0, 1])
        return float(
            transmit_energy(
                payload_bits=float(air.payload_bits),
                airtime_s=air.token_deadline_s,
                bandwidth_hz=states.bandwidth_hz[0],
                gain=states.uplink_gain[0],
                noise_psd=states.noise_psd[0],
            )
        )

    def _fleet(self, setting: Setting) -> AllReady:
        shape = self.bundle.shape
        if setting.placement == PLACEMENTS[0] and setting.most_hosts == 1:
            return AllReady(shape, setting.num_helpers)
        hosts = placed_hosts(
            setting,
            shape=shape,
            profile=self.profile,
            air=self.air(setting),
            radio=_radio(setting, 0),
            price_j_per_nat=PLACING_PRICE * self.unit_j(setting),
        )
        return AllReady(shape, setting.num_helpers, placed=hosts)

    @property
    def _hidden_size(self) -> int:
        return self.bundle.shape.hidden_size


def _radio(setting: Setting, seed: int) -> RadioEntry:
    return RadioEntry(
        bandwidth_hz=setting.bandwidth_hz,
        uplink=setting.uplink,  # type: ignore[arg-type]
        minimise=setting.minimise,  # type: ignore[arg-type]
        tx_power_limit_w=setting.tx_power_limit_w,
        fading=setting.fading,  # type: ignore[arg-type]
        coherence_time_s=setting.coherence_time_s,
        gain_floor=setting.gain_floor,
        seed=seed,
        links=setting.links,
        **_circuits(setting),
    )


def _circuits(setting: Setting) -> dict[str, Any]:
    """Power of every side's circuits, W."""
    sending, receiving = (setting.circuits * power_w for power_w in TYPICAL_CIRCUITS)
    return {f"{side}_tx_w": sending for side in _SIDES} | {
        f"{side}_rx_w": receiving for side in _SIDES
    }


def _mean_links(setting: Setting) -> LinkStates:
    """Links at their mean gains, which energies are counted in; simulated whatever the source."""
    still = msgspec.structs.replace(setting, fading="none", links=SIMULATED)
    return _links(still, 0).states(0.0)


def _middle_link(setting: Setting) -> LinkStates:
    """One link at its mean gain, at the geometric mean of the helpers' distances."""
    middle = {"num_helpers": 1, "distance_m": setting.middle_m, "distance_spread": 1.0}
    return _mean_links(msgspec.structs.replace(setting, **middle, distances_m=()))


def _links(setting: Setting, seed: int) -> Links:
    return links_of(_radio(setting, seed), setting.where_m())


def _record(
    task: str,
    metrics: dict[str, tuple[float, float]],
    ledger: Ledger,
    probe: Probe,
    *,
    mean_gain: float,
    layers: tuple[dict[str, float], ...],
    documents: tuple[tuple[float, int], ...],
    wall_s: float,
) -> TaskRecord:
    summary = ledger.summary()
    shares, latency = summary.shares, summary.latency_per_token
    mix = mix_of(ledger.rows(TransmissionRow), reference_gain=mean_gain)
    selections = sum(summary.status.values())
    return TaskRecord(
        task=task,
        metrics=metrics,
        tokens=summary.tokens,
        channel_states=probe.channel_states,
        uplink_j=summary.energy_per_token(direction="up").value,
        downlink_j=summary.energy_per_token(direction="down").value,
        airtime_s=latency.airtime_s,
        latency_s=latency.total_s,
        latency_uniform_s=probe.latency_uniform_s / max(1, summary.tokens),
        latency_optimal_s=probe.latency_optimal_s / max(1, summary.tokens),
        kept=shares["kept"],
        replaced=shares["replaced"],
        skipped=shares["skipped"],
        infeasible=summary.status.get("infeasible", 0) / selections if selections else math.nan,
        outage=summary.outage if summary.lost else 0.0,
        uplink_shared_j=None
        if math.isnan(probe.shared_j)
        else probe.shared_j / max(1, summary.tokens),
        total_j=summary.joule_per_token().value,
        radiated_share=summary.radiated_share,
        uplink_bits=mean_bits(mix),
        mix=mix,
        breakdown=breakdown_of(ledger),
        documents=documents,
        wall_s=wall_s,
        layers=layers,
    )


def _audited_layers(ledger: Ledger, probe: Probe) -> tuple[dict[str, float], ...]:
    """Sum up an audit per layer: tokens, those planned to deviate, those within their bound."""
    tokens = {row.step: row.tokens for row in ledger.rows(StepRow)}
    layers: list[dict[str, float]] = [
        dict.fromkeys(("tokens", "exact", "within", "measured", "bound"), 0.0)
        for _ in range(len(probe.exact_tokens))
    ]
    for row in ledger.rows(SelectionRow):
        entry, count = layers[row.layer], tokens[row.step]
        entry["tokens"] += count
        entry["within"] += row.within_bound or 0
        entry["measured"] += count * (row.measured_deviation or 0.0)
        entry["bound"] += count * row.deviation_bound_mean
    for entry, exact in zip(layers, probe.exact_tokens, strict=True):
        entry["exact"] = float(exact)
    return tuple(layers)
