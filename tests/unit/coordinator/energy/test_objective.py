"""Prices of the parts of the energy."""

from __future__ import annotations

import numpy as np
import pytest

from siftmoe.coordinator.air.interface import AirInterface
from siftmoe.coordinator.energy.circuit import CircuitPower
from siftmoe.coordinator.energy.objective import OBJECTIVES, Objective
from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.links.states import Direction

CIRCUIT = CircuitPower(user_tx_w=2e-7, user_rx_w=3e-7, helper_tx_w=5e-7, helper_rx_w=7e-7)
LINKS = FixedLinks(
    gain=[1e-8, 4e-8], downlink_gain=[2e-8, 1e-8], noise_psd=4e-21, bandwidth_hz=2e6
).states(0.0)


def air(minimise: str) -> AirInterface:
    objective = Objective.named(minimise)
    return AirInterface(
        payload_bits=65536,
        token_deadline_s=0.074,
        tx_power_limit_w=1.0,
        circuit=CIRCUIT,
        uplink_price=objective.uplink_price,
        downlink_price=objective.downlink_price,
        price_circuits=objective.circuits,
    )


@pytest.mark.parametrize("minimise", [*OBJECTIVES])
def test_a_table_is_the_weighted_sum_of_the_parts_that_its_bursts_book(minimise: str) -> None:
    one = air(minimise)
    user, helpers, circuits = OBJECTIVES[minimise]
    table = one.energy_table(LINKS, 4)
    for load in range(1, 5):
        wanted = np.zeros(2)
        for direction in Direction:
            bursts = one.bursts(
                one.load_of(np.array([load, load]), direction),
                LINKS,
                tokens=4,
                direction=direction,
            )
            sender, receiver = (user, helpers) if direction is Direction.UP else (helpers, user)
            wanted += sender * bursts.energy_j
            if circuits:
                wanted += sender * bursts.circuit_tx_j + receiver * bursts.circuit_rx_j
        np.testing.assert_allclose(table[:, load], wanted, rtol=1e-5)


@pytest.mark.parametrize("minimise", [*OBJECTIVES])
def test_every_objective_is_convex_in_the_load(minimise: str) -> None:
    steps = np.diff(air(minimise).energy_table(LINKS, 40), axis=1)
    assert (np.diff(steps, axis=1) >= -1e-9 * steps[:, 1:]).all()
    assert (steps > 0.0).all()


@pytest.mark.parametrize("minimise", [*OBJECTIVES])
def test_none_is_better_at_what_it_minimises_than_the_one_that_does(minimise: str) -> None:
    """The length of bursts follows the objective too."""
    own = air(minimise).energy_table(LINKS, 3)[:, 3]
    user, helpers, circuits = OBJECTIVES[minimise]
    for other in OBJECTIVES:
        spent = np.zeros(2)
        for direction in Direction:
            one = air(other)
            load = one.load_of(np.array([3, 3]), direction)
            bursts = one.bursts(load, LINKS, tokens=3, direction=direction)
            sender, receiver = (user, helpers) if direction is Direction.UP else (helpers, user)
            spent += sender * bursts.energy_j
            if circuits:
                spent += sender * bursts.circuit_tx_j + receiver * bursts.circuit_rx_j
        assert (own <= spent * (1 + 1e-5)).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"uplink_price": -1.0}, "uplink_price is -1.0, must be finite and not negative"),
        ({"downlink_price": float("nan")}, "downlink_price is nan, must be finite"),
        ({"downlink_price": float("inf")}, "downlink_price is inf, must be finite"),
        ({"uplink_price": 0.0, "downlink_price": 0.0}, "price at least one of them"),
    ],
)
def test_prices_that_mean_nothing_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Objective(**settings)
    with pytest.raises(ValueError, match="nothing is called 'all'; one of total, radiated"):
        Objective.named("all")
