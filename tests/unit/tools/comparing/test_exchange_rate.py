"""The search for the price of a stated loss, on runs with a known answer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.tools.comparing.exchange_rate import MOST_RUNS, find_rate
from siftmoe.tools.comparing.stated_loss import DRAWS, Trial

if TYPE_CHECKING:
    from collections.abc import Callable

SIFTMOE = PolicySpec("siftmoe")


class Formula:
    """Runs whose rise of perplexity is a function of the price, times the luck of a draw."""

    def __init__(self, rise: Callable[[float], float], luck: tuple[float, ...] = ()) -> None:
        self._rise = rise
        self._luck = luck or (1.0,) * DRAWS
        self.runs = 0

    def run(self, spec: PolicySpec, *, draw: int) -> Trial:
        self.runs += 1
        price = spec.number("price")
        rise = 0.0 if price is None else self._luck[draw] * self._rise(price)
        return Trial(perplexity=20.0 * (1.0 + rise), energy_j=1e-3)


@pytest.mark.parametrize("loss", [0.002, 0.025, 0.3])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("power", [0.6, 1.0, 1.6])
def test_price_of_a_smooth_rise_is_found_below_the_loss(
    loss: float, scale: float, power: float
) -> None:
    trials = Formula(lambda price: (scale * 1e-3 / price) ** power)
    rate = find_rate(SIFTMOE, trials, loss=loss)

    assert 0.88 * loss <= rate.perplexity_loss <= loss
    assert rate.rise.upper == pytest.approx(rate.perplexity_loss)
    assert rate.trials == trials.runs <= MOST_RUNS


@pytest.mark.parametrize("luck", [(0.4, 1.3, 0.9, 1.4), (1.5, 0.9, 0.8, 0.8)])
def test_the_upper_limit_over_the_draws_keeps_the_loss(luck: tuple[float, ...]) -> None:
    """The first draw alone, lucky or not, would set another price."""
    rate = find_rate(SIFTMOE, Formula(lambda price: 1e-3 / price, luck), loss=0.025)

    rises = np.array(luck) * 1e-3 / rate.price_j_per_nat
    limit = rises.mean() + 1.6377 * rises.std(ddof=1) / 2.0  # Student's t, 3 degrees, 90 %
    assert rate.perplexity_loss == pytest.approx(rises.mean())
    assert rate.rise.upper == pytest.approx(limit, rel=1e-4)
    assert 0.88 * 0.025 <= rate.rise.upper <= 0.025
    assert rate.perplexity_loss < 0.025
    assert rate.described(0.025)["draws"] == DRAWS


def test_loss_that_is_jumped_over_gives_the_largest_below_it() -> None:
    def steps(price: float) -> float:
        return 0.3 if price < 0.02 else 0.004 if price < 0.5 else 0.0

    rate = find_rate(SIFTMOE, Formula(steps), loss=0.025)

    assert rate.perplexity_loss == pytest.approx(0.004)
    assert 0.02 <= rate.price_j_per_nat < 0.5


def test_a_policy_that_always_costs_too_much_is_an_error_that_names_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"siftmoe: no price .* 90.0%.*siftmoe:price=JOULE"):
        find_rate(SIFTMOE, Formula(lambda _: 0.9), loss=0.025)


@pytest.mark.parametrize("loss", [0.0, -0.1, math.nan])
def test_loss_must_be_positive(loss: float) -> None:
    with pytest.raises(ValueError, match="loss must be positive"):
        find_rate(SIFTMOE, Formula(lambda _: 0.0), loss=loss)
