"""Finds the exchange rate between energy and predicted loss that gives a stated real loss.

The predicted loss of a price policy is no bound of the real one. So the rate is set on validation
text: the policy runs on experts in this process over simulated links of another seed, and the
search finds the rate at which perplexity exceeds Top-K's by the stated share. All trials use the
same text, links and precision, so that the comparison is paired.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from siftmoe.coordinator.coordinator import Coordinator
from siftmoe.coordinator.ledger.store import Ledger
from siftmoe.coordinator.policies.setup import prepare_policy
from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.models.tasks.evaluation import load_task
from siftmoe.models.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from siftmoe.coordinator.model.session import Session
    from siftmoe.coordinator.selection.widths import Bits
    from siftmoe.models.bundle.reader import Bundle
    from siftmoe.models.similarity.profile import Profile
    from siftmoe.tools.comparing.inprocess import ExpertsInProcess
    from siftmoe.tools.comparing.site import Site

#: The search ends when the loss is met within this share of itself.
_CLOSE = 0.04
_MOST_TRIALS = 12
#: Runs of the policy and of the reference in a search, at most.
MOST_RUNS = 1 + _MOST_TRIALS
#: A loss may exceed the stated one by this share.
_TOLERABLE = 0.5
#: About 4,000 tokens: a trial takes a second; a paired change of perplexity is known to 0.3 %.
VALIDATION_DOCUMENTS = 32
_VALIDATION_SEED_OFFSET = 7_919
#: Reference of a loss: every routed expert, at 16 bits in both directions.
REFERENCE = PolicySpec("topk", {"bits": 16.0, "downlink_bits": 16.0})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """An exchange rate and its loss on the validation text."""

    price_j_per_nat: float
    perplexity_loss: float
    trials: int


class Runs(Protocol):
    """Runs a policy on validation text."""

    def run(self, spec: PolicySpec) -> tuple[float, float]:
        """Perplexity on the validation text, and uplink energy of a token in joule."""
        ...


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

    def run(self, spec: PolicySpec) -> tuple[float, float]:
        """Perplexity on the validation text, and uplink energy of a token in joule."""
        prepared = prepare_policy(
            spec,
            shape=self.bundle.shape,
            profile=self.profile,
            bits=self.bits,
            downlink_bits=self.downlink_bits,
        )
        with (
            tempfile.TemporaryDirectory() as folder,
            Ledger.create(Path(folder) / "trial.sqlite") as ledger,
        ):
            coordinator = Coordinator(
                fleet=self.site.fleet,
                dispatcher=self.experts,
                links=self.site.trial_links(self.seed + _VALIDATION_SEED_OFFSET),
                air=self.site.air(prepared.widths),
                policy=prepared.select,
                tables=prepared.tables,
                ledger=ledger,
                reads_router=prepared.reads_router,
            )
            with coordinator.attached(self.session.model):
                result = self.session.evaluate(self.task, batch_size=self.batch_size)
            energy = ledger.summary().energy_per_token(direction="up").value
        return result.metrics["perplexity"].value, energy


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


def find_rate(
    spec: PolicySpec,
    trials: Runs,
    *,
    loss: float,
    on_trial: Callable[[], None] = lambda: None,
) -> Rate:
    """Find the price at which a policy costs a stated share of perplexity.

    If the loss moves in steps and no price comes near it, the largest loss below it is taken.

    Parameters
    ----------
    spec : PolicySpec
        Without a budget; the price is added to it.
    trials : Runs
    loss : float
        Perplexity over Top-K's, less one; positive.
    on_trial : callable
        Called after each trial.

    Raises
    ------
    ValueError
        If the loss is not positive, or every price costs more.
    """
    if not loss > 0.0:
        raise ValueError(f"policy {spec}: loss must be positive, got {loss}; topk has none")
    reference, energy = trials.run(REFERENCE)
    on_trial()
    low, high = -math.inf, math.inf  # log of prices: too low (loss too high), too high
    # A nat of loss over all layers is worth some hundred tokens' energy at moderate losses.
    guess, step = math.log(100.0 * energy), math.log(8.0)
    found: list[tuple[float, float]] = []  # (price, loss)
    while len(found) < _MOST_TRIALS:
        price = math.exp(guess)
        perplexity, _ = trials.run(spec.having(price=price))
        on_trial()
        rise = perplexity / reference - 1.0
        found.append((price, rise))
        if abs(rise / loss - 1.0) < _CLOSE:
            break
        if rise > loss:
            low = guess
        else:
            high = guess
        if math.isinf(low) or math.isinf(high):
            guess += step if rise > loss else -step
        else:
            guess = 0.5 * (low + high)
    price, rise = _nearest(found, spec, loss=loss)
    return Rate(price_j_per_nat=price, perplexity_loss=rise, trials=1 + len(found))


def _nearest(
    found: list[tuple[float, float]], spec: PolicySpec, *, loss: float
) -> tuple[float, float]:
    """Choose the price whose loss is near the stated one, or else below it.

    With few links the loss moves in steps, and may jump over the stated one.
    """
    nearest = min(found, key=lambda trial: abs(trial[1] - loss))
    if nearest[1] < (1.0 + _TOLERABLE) * loss:
        return nearest
    below = [trial for trial in found if trial[1] <= loss]
    if not below:
        raise ValueError(
            f"policy {spec}: no price was found at which perplexity rises by {loss:.1%}; the "
            f"nearest of {len(found)} trials gave {nearest[1]:.1%}. Name one: "
            f"{spec.name}:price=JOULE"
        )
    return max(below, key=lambda trial: trial[1])
