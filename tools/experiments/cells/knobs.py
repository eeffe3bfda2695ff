"""Sets a policy's knob on validation text so that it costs a stated share of perplexity.

Prices are set by `siftmoe.tools.comparing.exchange_rate`; the other knobs, which lie within bounds,
are bisected here. The test text is not used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.tools.comparing.exchange_rate import find_rate
from siftmoe.tools.experiments.cells.records import KNOB

if TYPE_CHECKING:
    from siftmoe.models.tasks.task import Task
    from siftmoe.tools.experiments.cells.emulation import Emulation
    from siftmoe.tools.experiments.cells.records import Cell

#: Seed of the links of trials; no study uses it.
_VALIDATION_SEED = 7_919
_MOST_TRIALS = 9
#: A bisection is over once the loss is met to this share of itself.
_CLOSE = 0.06

#: Bounds of the knobs that are no price; a quality falls from the first to the second.
_BOUNDS = {
    "tolerance": (0.0, 1.0),
    "average": (0.0, 1.0),
    "threshold": (1.0, 0.5),
    "min_weight": (0.0, 1.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A knob's value, in the cell's units, and the loss that it costs on validation text."""

    value: float
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationTrials:
    """Runs policies on validation text under a cell's setting."""

    emulation: Emulation
    cell: Cell
    task: Task
    batch_size: int

    def run(self, spec: PolicySpec) -> tuple[float, float]:
        """Perplexity on the validation text, and energy of a token in both directions in joule."""
        record = self.emulation.run(
            spec, self.cell.setting, self.task, seed=_VALIDATION_SEED, batch_size=self.batch_size
        )
        return record.metrics["perplexity"][0], record.radio_j


def policy_of(cell: Cell, value: float | None, *, unit_j: float) -> PolicySpec:
    """Fill a knob's value into a cell's policy; a price is turned into joule."""
    if not cell.has_knob:
        return PolicySpec.parse(cell.template)
    if value is None:
        raise ValueError(f"cell {cell.template!r} has a knob and no value")
    joule = value * unit_j if cell.is_price else value
    return PolicySpec.parse(cell.template.replace(KNOB, repr(joule)))


def find_knob(trials: ValidationTrials) -> Found:
    """Find the knob value at which a cell's policy costs the stated loss.

    Raises
    ------
    ValueError
        If no price gives this loss.
    """
    cell, loss = trials.cell, trials.cell.loss
    if loss is None or not cell.has_knob:
        raise ValueError(f"cell {cell.template!r} states no loss to set a knob by")
    unit_j = trials.emulation.unit_j(cell.setting)
    if not cell.is_price:
        return _bisect(trials, loss, unit_j)
    base = PolicySpec.parse(cell.template.replace(KNOB, "0"))
    options = {key: value for key, value in base.options.items() if key != "price"}
    rate = find_rate(replace(base, options=options), trials, loss=loss)
    return Found(value=rate.price_j_per_nat / unit_j, loss=rate.perplexity_loss)


def _bisect(trials: ValidationTrials, loss: float, unit_j: float) -> Found:
    """Bisect the knob's range; some knobs move in steps, so the nearest loss found is taken."""
    cell = trials.cell
    gentle, harsh = _BOUNDS[_knob_name(cell.template)]
    reference, _ = trials.run(PolicySpec("topk"))
    best: Found | None = None
    for _ in range(_MOST_TRIALS):
        value = 0.5 * (gentle + harsh)
        perplexity, _ = trials.run(policy_of(cell, value, unit_j=unit_j))
        found = Found(value=value, loss=perplexity / reference - 1.0)
        if best is None or abs(found.loss - loss) < abs(best.loss - loss):
            best = found
        if abs(found.loss / loss - 1.0) < _CLOSE:
            break
        gentle, harsh = (gentle, value) if found.loss > loss else (value, harsh)
    if best is None:
        raise ValueError(f"cell {cell.template!r}: no trial was made")
    return best


def _knob_name(template: str) -> str:
    before = template.split(f"={KNOB}", maxsplit=1)[0]
    return before.rsplit(":", maxsplit=1)[-1]
