"""Choose the exchange rate between energy and predicted loss that meets a stated real loss.

The predicted loss of a price policy steers, it does not certify. So the rate is set on validation
text: the policy runs on experts in this process over simulated links of another seed, and the rate
is searched at which perplexity is above Top-K's by the stated share. The same text, links and
precision serve every trial, so that the comparison is paired.
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

#: Trials are over once the loss is met to this share of itself.
_CLOSE = 0.04
_MOST_TRIALS = 12
#: A loss above the stated one by less is still taken for it.
_TOLERABLE = 0.5
#: Some 4,000 tokens: a trial takes a second and a paired change of perplexity is good to 0.3%.
VALIDATION_DOCUMENTS = 32
_VALIDATION_SEED_OFFSET = 7_919
#: What a loss is measured against: every expert, at 16 bits each way.
REFERENCE = PolicySpec("topk", {"bits": 16.0, "downlink_bits": 16.0})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """An exchange rate and what it costs on the validation text."""

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
    """Runs a policy on validation text; the parts that do not change between trials."""

    bundle: Bundle
    profile: Profile
    session: Session
    experts: ExpertsInProcess
    site: Site
    seed: int
    task: Task
    batch_size: int
    bits: Bits
    downlink_bits: int | None

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
            )
            with coordinator.attached(self.session.model):
                result = self.session.evaluate(self.task, batch_size=self.batch_size)
            energy = ledger.summary().energy_per_token(direction="up").value
        return result.metrics["perplexity"].value, energy


def validation_task(tokenizer: Any) -> Task:
    """Return the text on which rates are set; the test text plays no part in it."""
    task = load_task("perplexity", tokenizer=tokenizer, split="val", limit=VALIDATION_DOCUMENTS)
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
    """Search the price at which a policy costs a stated share of perplexity.

    Where no price comes near it, the loss moves in steps; the largest below it counts then.

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
    low, high = -math.inf, math.inf  # log of prices: too cheap (loss too high), too dear
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
    """Choose a price and what it costs: near the stated loss, or else below it.

    Where few links leave few choices the loss moves in steps, and may jump over the stated one.
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
