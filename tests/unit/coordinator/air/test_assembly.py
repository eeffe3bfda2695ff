"""The air interface built from a testbed's settings."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from siftmoe.coordinator.air.assembly import air_interface
from siftmoe.coordinator.air.interface import AirInterface
from siftmoe.coordinator.air.slotted import SlottedAir
from siftmoe.coordinator.config.radio import RadioEntry
from siftmoe.coordinator.links.assembly import simulated_links
from siftmoe.models.shape import ModelShape

SHAPE = ModelShape(
    num_layers=1,
    num_experts=4,
    top_k=2,
    hidden_size=128,
    intermediate_size=256,
    activation="silu",
)
DISTANCES = [5.0, 10.0, 20.0]


def test_a_shared_deadline_reaches_the_air():
    air = air_interface(RadioEntry(deadline_shared=True, downlink_price=0.5), SHAPE)
    assert (air.deadline_shared, air.downlink_price) == (True, 0.5)
    assert air.compute_s_per_token == pytest.approx(6 * 128 * 256 / 100e9)
    assert type(air_interface(RadioEntry(), SHAPE)) is AirInterface


@pytest.mark.parametrize(
    ("settings", "prices"),
    [
        ({}, (1.0, 1.0, True)),
        ({"minimise": "radiated"}, (1.0, 1.0, False)),
        ({"minimise": "user"}, (1.0, 0.0, True)),
        ({"minimise": "helpers"}, (0.0, 1.0, True)),
        ({"minimise": "user", "downlink_price": 0.2}, (1.0, 0.2, True)),
        ({"uplink_price": 3.0}, (3.0, 1.0, True)),
    ],
)
def test_what_is_minimised_is_a_price_for_each_side(settings, prices):
    objective = air_interface(RadioEntry(**settings), SHAPE).objective
    assert (objective.uplink_price, objective.downlink_price, objective.circuits) == prices


def test_fast_fading_goes_by_the_links_mean_gains():
    radio = RadioEntry(fading_slots=5, outage_price=20.0, seed=7, deadline_s=0.002)
    air = air_interface(radio, SHAPE, distances_m=DISTANCES)
    assert isinstance(air, SlottedAir)
    assert (air.slots, air.outage_price, air.token_deadline_s) == (5, 20.0, 0.002)
    still = simulated_links(RadioEntry(fading="none"), DISTANCES).states(3.0)
    np.testing.assert_array_equal(air.mean.uplink_gain, still.uplink_gain)
    again = air_interface(radio, SHAPE, distances_m=DISTANCES)
    assert isinstance(again, SlottedAir)
    assert air.rng.random() == again.rng.random()  # the same channel for every policy


def test_fast_fading_needs_to_know_where_the_helpers_are():
    with pytest.raises(ValueError, match="needs the helpers' distances"):
        air_interface(RadioEntry(fading_slots=5), SHAPE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fading": "rician"}, "Rayleigh in blocks, got fading 'rician'"),
        ({"fading_process": "jakes"}, "Rayleigh in blocks, got fading 'rayleigh' as 'jakes'"),
        ({"deadline_shared": True}, "leave out deadline_shared"),
        ({"uplink_price": 0.0, "downlink_price": 0.0}, "both 0"),
        ({"fading_slots": 1000}, "<= 256"),
    ],
)
def test_settings_that_do_not_go_together_are_told(change, message):
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert({"fading_slots": 4, **change}, RadioEntry)
