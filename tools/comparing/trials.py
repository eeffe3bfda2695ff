"""Trials of a policy on validation text: experts in this process over links of other seeds."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.coordinator.air.slotted import SlottedAir
from siftmoe.coordinator.coordinator import Coordinator
from siftmoe.coordinator.ledger.store import Ledger
from siftmoe.coordinator.policies.setup import prepare_policy
from siftmoe.models.tasks.evaluation import load_task
from siftmoe.models.tasks.task import Task
from siftmoe.tools.comparing.stated_loss import Trial

if TYPE_CHECKING:
    from siftmoe.coordinator.air.interface import AirInterface
    from siftmoe.coordinator.model.session import Session
    from siftmoe.coordinator.policies.spec import PolicySpec
    from siftmoe.coordinator.selection.widths import Bits
    from siftmoe.models.bundle.reader import Bundle
    from siftmoe.models.similarity.profile import Profile
    from siftmoe.tools.comparing.inprocess import ExpertsInProcess
    from siftmoe.tools.comparing.site import Site

#: About 4,000 tokens: a trial takes a second; a paired change of perplexity is known to 0.3 %.
VALIDATION_DOCUMENTS = 32
#: Seeds of trials: no run that somebody asks for is near them by accident.
VALIDATION_SEED = 7_919


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """Trials of a policy on validation text, with what all trials share."""

    bundle: Bundle
    profile: Profile
    session: Session
    experts: ExpertsInProcess
    site: Site
    seed: int
    task: Task
    batch_size: int
    bits: Bits
    downlink_bits: Bits | None

    def run(self, spec: PolicySpec, *, draw: int) -> Trial:
        """Run over the links of a draw."""
        prepared = prepare_policy(
            spec,
            shape=self.bundle.shape,
            profile=self.profile,
            bits=self.bits,
            downlink_bits=self.downlink_bits,
        )
        seed = self.seed + VALIDATION_SEED * (1 + draw)
        with (
            tempfile.TemporaryDirectory() as folder,
            Ledger.create(Path(folder) / "trial.sqlite") as ledger,
        ):
            coordinator = Coordinator(
                fleet=self.site.fleet,
                dispatcher=self.experts,
                links=self.site.trial_links(seed),
                air=_drawn(self.site.air(prepared.widths), seed),
                policy=prepared.select,
                tables=prepared.tables,
                ledger=ledger,
                reads_router=prepared.reads_router,
            )
            with coordinator.attached(self.session.model):
                result = self.session.evaluate(self.task, batch_size=self.batch_size)
            summary = ledger.summary()
        return Trial(
            perplexity=result.metrics["perplexity"].value,
            energy_j=sum(summary.energy_per_token(direction=d).value for d in ("up", "down")),
            documents=result.documents,
        )


def _drawn(air: AirInterface, seed: int) -> AirInterface:
    """Draw the later blocks of fast fading anew; another air has nothing random."""
    if not isinstance(air, SlottedAir):
        return air
    return replace(air, rng=np.random.default_rng((seed, air.slots)))


def validation_task(tokenizer: Any, *, context: int | None) -> Task:
    """Return the text on which rates are set; the test text is not used."""
    task = load_task(
        "perplexity",
        tokenizer=tokenizer,
        split="val",
        limit=VALIDATION_DOCUMENTS,
        context=context,
    )
    if not isinstance(task, Task):
        raise TypeError("the validation text is scored by perplexity")
    return task
