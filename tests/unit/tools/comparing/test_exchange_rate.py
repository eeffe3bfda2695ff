"""The search for the price of a stated loss, on runs with a known answer."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.tools.comparing.exchange_rate import find_rate


class Formula:
    """Runs whose rise of perplexity is a function of the price."""

    def __init__(self, rise: Callable[[float], float]) -> None:
        self._rise = rise

    def run(self, spec: PolicySpec) -> tuple[float, float]:
        price = spec.number("price")
        return 20.0 * (1.0 + (0.0 if price is None else self._rise(price))), 1e-3


@pytest.mark.parametrize("loss", [0.002, 0.025, 0.3])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_price_of_a_smooth_rise_is_found(loss: float, scale: float) -> None:
    rate = find_rate(PolicySpec("siftmoe"), Formula(lambda price: scale * 1e-3 / price), loss=loss)

    assert rate.perplexity_loss == pytest.approx(loss, rel=0.05)
    assert rate.price_j_per_nat == pytest.approx(scale * 1e-3 / loss, rel=0.05)


def test_loss_that_is_jumped_over_gives_the_largest_below_it() -> None:
    def steps(price: float) -> float:
        return 0.3 if price < 0.02 else 0.004 if price < 0.5 else 0.0

    rate = find_rate(PolicySpec("siftmoe"), Formula(steps), loss=0.025)

    assert rate.perplexity_loss == pytest.approx(0.004)
    assert 0.02 <= rate.price_j_per_nat < 0.5


def test_a_policy_that_always_costs_too_much_is_an_error_that_names_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"siftmoe: no price .* 90.0%.*siftmoe:price=JOULE"):
        find_rate(PolicySpec("siftmoe"), Formula(lambda _: 0.9), loss=0.025)


@pytest.mark.parametrize("loss", [0.0, -0.1, math.nan])
def test_loss_must_be_positive(loss: float) -> None:
    with pytest.raises(ValueError, match="loss must be positive"):
        find_rate(PolicySpec("siftmoe"), Formula(lambda _: 0.0), loss=loss)
