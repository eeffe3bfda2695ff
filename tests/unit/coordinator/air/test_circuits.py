"""Bursts that end early since circuits take power, and answers of several widths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from siftmoe.coordinator.air.bursts import Load
from siftmoe.coordinator.air.interface import AirInterface
from siftmoe.coordinator.energy.circuit import CircuitPower
from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.links.states import Direction
from siftmoe.coordinator.selection.problem import LOCAL, NOBODY, SelectionPlan, Status

LINKS = FixedLinks(
    gain=[1e-10, 4e-10], downlink_gain=[2e-10, 1e-10], noise_psd=4e-21, bandwidth_hz=2e6
).states(0.0)
CIRCUIT = CircuitPower(user_tx_w=0.2, helper_rx_w=0.1, helper_tx_w=0.3, user_rx_w=0.05)


def air(**changes: Any) -> AirInterface:
    settings = {"payload_bits": 2048, "token_deadline_s": 0.0023, "tx_power_limit_w": 1.0}
    return AirInterface(**{**settings, **changes})


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("direction", list(Direction))
def test_the_price_of_a_load_is_the_energy_of_its_burst(together, direction):
    interface = air(shared_window=together, circuit=CIRCUIT, downlink_price=1.0)
    loads, table = np.array([3, 5]), interface.energy_table(LINKS, 6)
    both = 0.0
    for way in Direction:
        load = interface.load_of(loads, way)
        bursts = interface.bursts(load, LINKS, tokens=6, direction=way)
        both = both + bursts.energy_j + bursts.circuit_tx_j + bursts.circuit_rx_j
        if way is direction:
            assert np.all(bursts.airtime_s < 6 * 0.0023)
            sender = 0.2 if way is Direction.UP else 0.3
            np.testing.assert_allclose(bursts.circuit_tx_j, sender * bursts.airtime_s)
            np.testing.assert_allclose(bursts.energy_j, bursts.tx_power_w * bursts.airtime_s)
    np.testing.assert_allclose(both, table[[0, 1], loads], rtol=1e-12)


def test_a_layer_takes_as_long_as_its_longest_bursts():
    interface = air(circuit=CIRCUIT)
    up, down = (
        interface.bursts(interface.load_of(np.array([3, 5]), way), LINKS, tokens=6, direction=way)
        for way in Direction
    )
    taken = up.airtime_s.max() + down.airtime_s.max()
    assert interface.airtime_s(up, down) == pytest.approx(taken)
    assert taken < up.window_s


def test_without_circuits_bursts_last_their_window():
    bursts = air().bursts(
        air().load_of(np.array([1, 0]), Direction.UP), LINKS, tokens=4, direction=Direction.UP
    )
    assert bursts.airtime_s.tolist() == [4 * 0.0023]
    assert not bursts.circuit_tx_j.any()
    assert not bursts.circuit_rx_j.any()


def test_control_is_payload_and_has_its_share_of_the_energy():
    interface = air()
    load = Load(
        count=np.array([[2], [1]]),
        width=(16,),
        bits=np.array([2048.0]),
        control=np.array([100.0, 0.0]),
    )
    bursts = interface.bursts(load, LINKS, tokens=2, direction=Direction.UP)
    assert bursts.payload_bits.tolist() == [4196.0, 2048.0]
    np.testing.assert_allclose(bursts.control_j, bursts.energy_j * [100 / 4196, 0.0])
    plain = interface.bursts(
        interface.load_of(np.array([2, 1]), Direction.UP), LINKS, tokens=2, direction=Direction.UP
    )
    assert bursts.energy_j[0] > plain.energy_j[0]
    assert bursts.energy_j[1] == plain.energy_j[1]


def test_a_shared_deadline_with_circuits_is_refused():
    with pytest.raises(ValueError, match="circuit"):
        air(deadline_shared=True, circuit=CIRCUIT)


def plan(reply_width: Any) -> SelectionPlan:
    return SelectionPlan(
        helper=np.array([[0, 1], [1, 1], [LOCAL, NOBODY]]),
        expert=np.zeros((3, 2), np.int64),
        weight=np.ones((3, 2)),
        width=np.array([[16, 16], [16, 16], [0, 0]]),
        status=Status.FEASIBLE,
        energy_j=0.0,
        lower_bound_j=0.0,
        deviation=np.zeros(3),
        reply_width=None if reply_width is None else np.array(reply_width),
    )


def test_answers_are_counted_by_width():
    interface = air(reply_width_bits={4: 528, 6: 784})
    back = interface.load_back(plan([[4, 6], [4, 4], [0, 0]]), 2)
    assert back.count.tolist() == [[1, 0], [1, 1]]
    assert back.payload_bits.tolist() == [528.0, 528.0 + 784.0]
    bursts = interface.bursts(back, LINKS, tokens=3, direction=Direction.DOWN)
    assert bursts.by_width.tolist() == [[1, 0], [1, 1]]
    assert bursts.width == (4, 6)


def test_a_plan_without_widths_of_answers_has_the_airs():
    back = air(reply_bits=1040, reply_width=8).load_back(plan(None), 2)
    assert back.width == (8,)
    assert back.payload_bits.tolist() == [1040.0, 2080.0]


def test_an_unknown_width_of_an_answer_is_refused():
    with pytest.raises(ValueError, match="5"):
        air(reply_width_bits={4: 528, 6: 784}).load_back(plan([[5, 6], [4, 4], [0, 0]]), 2)
