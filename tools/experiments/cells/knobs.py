"""Sets a policy's knob on validation text so that it costs a stated share of perplexity.

Prices are set by `siftmoe.tools.comparing.exchange_rate`; the other knobs, which lie within bounds,
are bisected here. The test text is not used.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.tools.comparing.exchange_rate import find_rate
from siftmoe.tools.comparing.stated_loss import Rise, Rises, Trial
from siftmoe.tools.experiments.cells.records import KNOB

if TYPE_CHECKING:
    from collections.abc import Callable

    from siftmoe.models.tasks.task import Task
    from siftmoe.tools.experiments.cells.emulation import Emulation
    from siftmoe.tools.experiments.cells.records import Cell, Outcome

#: Seed of the links of the first draw of trials; no study uses it.
_VALIDATION_SEED = 7_919
_MOST_TRIALS = 8
#: Values that are tried on all draws, and the share of the loss that its limit may be below it.
_MOST_ROUNDS = 5
_SLACK = 0.15
#: A bisection is over once the loss is met to this share of itself.
_CLOSE = 0.2

#: Bounds of the knobs that are no price; a quality falls from the first to the second.
_BOUNDS = {
    "tolerance": (0.0, 1.0),
    "average": (0.0, 1.0),
    "threshold": (1.0, 0.5),
    "min_weight": (0.0, 1.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A knob's value, in the cell's units, and the loss that it costs on validation text.

    ``error`` is the loss's standard error, ``upper`` its one-sided upper confidence limit
    (`siftmoe.tools.comparing.stated_loss`).
    """

    value: float
    loss: float
    error: float
    upper: float
    trials: int

    @classmethod
    def of(cls, value: float, rise: Rise, trials: int) -> Found:
        """Make it of a rise over several draws."""
        return cls(
            value=value,
            loss=rise.mean,
            error=rise.standard_error,
            upper=rise.upper,
            trials=trials,
        )


def found_in(outcome: Outcome) -> Found | None:
    """Return how an outcome's knob was set; None if it was not."""
    if outcome.value is None or outcome.validation_loss is None:
        return None
    return Found(
        value=outcome.value,
        loss=outcome.validation_loss,
        error=outcome.validation_error or 0.0,
        upper=math.inf if outcome.validation_upper is None else outcome.validation_upper,
        trials=outcome.trials or 0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationTrials:
    """Runs policies on validation text under a cell's setting."""

    emulation: Emulation
    cell: Cell
    task: Task
    batch_size: int

    def run(self, spec: PolicySpec, *, draw: int) -> Trial:
        """Run on validation text over the links of a draw; with circuits energy is all of it."""
        record = self.emulation.run(
            spec,
            self.cell.setting,
            self.task,
            seed=_VALIDATION_SEED + draw,
            batch_size=self.batch_size,
        )
        whole_j = record.total_j if self.cell.setting.circuits else None
        return Trial(
            perplexity=record.metrics["perplexity"][0],
            energy_j=record.radio_j if whole_j is None else whole_j,
            documents=record.documents,
        )


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
    return Found.of(rate.price_j_per_nat / unit_j, rate.rise, rate.trials)


def _bisect(trials: ValidationTrials, loss: float, unit_j: float) -> Found:
    """Set a knob within its range: bisected on one draw of the links, then on all of them.

    Some knobs move in steps, so the largest loss that was found whose upper limit keeps the stated
    one is taken, or else the smallest limit: the range ends there.
    """
    gentle, harsh = _BOUNDS[_knob_name(trials.cell.template)]
    rises = Rises(runs=trials)

    def spec(place: float) -> PolicySpec:
        return policy_of(trials.cell, gentle + place * (harsh - gentle), unit_j=unit_j)

    place, low, high = _coarse(rises, spec, loss), 0.0, 1.0
    found: list[Found] = []
    for _ in range(_MOST_ROUNDS):
        rise = rises.over_draws(spec(place))
        found.append(Found.of(gentle + place * (harsh - gentle), rise, rises.count))
        if (1.0 - _SLACK) * loss <= rise.upper <= loss:
            break
        low, high = (low, place) if rise.upper > loss else (place, high)
        # the loss grows about as the square of a knob near its gentle end
        wanted = (1.0 - 0.5 * _SLACK) * loss
        place *= math.sqrt(wanted / rise.upper) if rise.upper > 0.0 else 2.0
        if not low < place < high:
            place = 0.5 * (low + high)
    kept = [one for one in found if one.upper <= loss]
    chosen = max(kept, key=_loss) if kept else min(found, key=_upper)
    return replace(chosen, trials=rises.count)


def _coarse(rises: Rises, spec: Callable[[float], PolicySpec], loss: float) -> float:
    """Return the place in a knob's range, 0 to 1, whose rise on one draw is nearest to the loss."""
    low, high, place = 0.0, 1.0, 0.5
    tried: list[tuple[float, float]] = []
    for _ in range(_MOST_TRIALS):
        rise = rises.on(spec(place), 0)
        tried.append((abs(rise - loss), place))
        if tried[-1][0] < _CLOSE * loss:
            break
        low, high = (low, place) if rise > loss else (place, high)
        place = 0.5 * (low + high)
    return min(tried)[1]


_loss, _upper = operator.attrgetter("loss"), operator.attrgetter("upper")


def _knob_name(template: str) -> str:
    before = template.split(f"={KNOB}", maxsplit=1)[0]
    return before.rsplit(":", maxsplit=1)[-1]
