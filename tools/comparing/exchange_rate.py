r"""Finds the exchange rate between energy and predicted loss that gives a stated real loss.

The predicted loss of a price policy is no bound of the real one. So the rate is set on validation
text: the policy runs on experts in this process over simulated links of other seeds.

1. *Coarse*: on one draw of the links, steps of the rise's power law,

   .. math:: \ln p' = \ln p + \frac{\ln(r / r^*)}{\alpha}

   with the rise r at price p, the stated one r* and the exponent :math:`\alpha` between the last
   two trials (1 at first), kept between the prices that are known to be too low and too high.
2. *Confirmed*: on several draws of seeds of their own, paired on the same text, until the one-sided
   upper confidence limit of the mean rise is just below the stated one
   (`siftmoe.tools.comparing.stated_loss`).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from siftmoe.tools.comparing.stated_loss import DRAWS, Rise, Rises

if TYPE_CHECKING:
    from collections.abc import Callable

    from siftmoe.coordinator.policies.spec import PolicySpec
    from siftmoe.tools.comparing.stated_loss import Runs

#: The coarse search ends when the loss is met within this share of itself.
_CLOSE = 0.2
_MOST_COARSE = 8
#: The confirmation ends when the upper limit is at most the loss, and not less by this share of it.
_SLACK = 0.12
_MOST_ROUNDS = 5
#: Runs of the policy and of the reference in a search, at most.
MOST_RUNS = _MOST_COARSE + DRAWS + _MOST_ROUNDS * DRAWS
#: Longest step of a price, as a factor, and bounds of the exponent.
_LONGEST_STEP = math.log(30.0)
_EXPONENTS = (0.4, 2.5)
#: Bounds of a price that are closer than this share hold a jump of the loss between them.
_JUMP = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """An exchange rate and the rise of perplexity that it costs on the validation text."""

    price_j_per_nat: float
    rise: Rise
    trials: int

    @property
    def perplexity_loss(self) -> float:
        """Mean rise over the draws."""
        return self.rise.mean

    def described(self, loss: float) -> dict[str, Any]:
        """Return the rate as plain values, with the loss that was stated."""
        return {
            "loss": loss,
            "price_j_per_nat": self.price_j_per_nat,
            "trials": self.trials,
            **asdict(self.rise),
        }


@dataclass(kw_only=True)
class _Bracket:
    """Steps towards the price at which a falling function of it has a wanted value."""

    wanted: float
    low: float = -math.inf  # log of a price that is too low, and of one that is too high
    high: float = math.inf
    exponent: float = 1.0
    last: tuple[float, float] | None = None

    def after(self, log_price: float, value: float) -> float:
        """Return the log of the next price."""
        self._learn(log_price, value)
        if value > self.wanted:
            self.low = max(self.low, log_price)
        else:
            self.high = min(self.high, log_price)
        ratio = value / self.wanted if value > 0.0 else 0.0
        step = math.log(ratio) / self.exponent if ratio > 0.0 else -math.log(8.0)
        following = log_price + max(-_LONGEST_STEP, min(_LONGEST_STEP, step))
        if self.low < following < self.high:
            return following
        if math.isinf(self.low) or math.isinf(self.high):
            return log_price + math.copysign(math.log(2.0), value - self.wanted)
        return 0.5 * (self.low + self.high)

    def _learn(self, log_price: float, value: float) -> None:
        if self.last is not None and value > 0.0:
            before, then = self.last
            if then > 0.0 and before != log_price and then != value:
                slope = -math.log(value / then) / (log_price - before)
                self.exponent = min(_EXPONENTS[1], max(_EXPONENTS[0], slope))
        self.last = (log_price, value)

    @property
    def closed(self) -> bool:
        """Whether the value jumps over the wanted one."""
        return self.high - self.low < _JUMP


def find_rate(
    spec: PolicySpec,
    trials: Runs,
    *,
    loss: float,
    on_trial: Callable[[], None] = lambda: None,
) -> Rate:
    """Find the price at which a policy costs at most a stated share of perplexity.

    If the loss moves in steps, the largest is taken whose upper limit is not above the stated one.

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
    if not 0.0 < loss < math.inf:
        raise ValueError(f"policy {spec}: loss must be positive, got {loss}; topk has none")
    rises = Rises(runs=trials, on_trial=on_trial)
    log_price, exponent = _coarse(spec, rises, loss=loss)
    found: list[tuple[float, Rise]] = []
    # Aims between the bounds of what is accepted; the coarse search ends anywhere near the loss.
    bracket = _Bracket(wanted=(1.0 - 0.5 * _SLACK) * loss, exponent=exponent)
    while len(found) < _MOST_ROUNDS:
        price = math.exp(log_price)
        rise = rises.over_draws(spec.having(price=price))
        found.append((price, rise))
        if (1.0 - _SLACK) * loss <= rise.upper <= loss:
            break
        log_price = bracket.after(log_price, rise.upper)
        if bracket.closed:
            break
    price, rise = _best(found, spec, loss=loss)
    return Rate(price_j_per_nat=price, rise=rise, trials=rises.count)


def _coarse(spec: PolicySpec, rises: Rises, *, loss: float) -> tuple[float, float]:
    """Return the log of a price whose rise on one draw is near the stated one, or else below it.

    Beside it the exponent of the rise's power law.
    """
    # A nat of loss over all layers is worth some hundred tokens' energy at moderate losses.
    log_price = math.log(100.0 * rises.reference(0).energy_j)
    bracket = _Bracket(wanted=loss)
    found: list[tuple[float, float]] = []
    for _ in range(_MOST_COARSE):
        rise = rises.on(spec.having(price=math.exp(log_price)), 0)
        found.append((log_price, rise))
        if abs(rise / loss - 1.0) < _CLOSE:
            return log_price, bracket.exponent
        log_price = bracket.after(log_price, rise)
    below = [trial for trial in found if trial[1] <= loss]
    if not below:
        _refuse(spec, loss=loss, nearest=min(rise for _, rise in found), count=len(found))
    cheapest = max(below, key=lambda trial: (trial[1], -trial[0]))
    return cheapest[0], bracket.exponent


def _best(found: list[tuple[float, Rise]], spec: PolicySpec, *, loss: float) -> tuple[float, Rise]:
    """Choose the largest mean rise whose upper limit keeps the stated loss."""
    below = [trial for trial in found if trial[1].upper <= loss]
    if not below:
        nearest = min(rise.upper for _, rise in found)
        _refuse(spec, loss=loss, nearest=nearest, count=len(found))
    return max(below, key=lambda trial: (trial[1].mean, -trial[0]))


def _refuse(spec: PolicySpec, *, loss: float, nearest: float, count: int) -> NoReturn:
    raise ValueError(
        f"policy {spec}: no price was found at which perplexity rises by {loss:.1%}; the "
        f"nearest of {count} trials gave {nearest:.1%}. Name one: "
        f"{spec.name}:price=JOULE"
    )
