"""Bursts over a channel that changes within them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from siftmoe.coordinator.airtime import AirInterface, Direction
from siftmoe.coordinator.links import FixedLinks
from siftmoe.coordinator.selection import NOBODY, SelectionPlan, Status
from siftmoe.tools.experiments.slotted import Lossy, SlottedAir

GAIN = 1e-8
AIR = {"payload_bits": 4096, "token_deadline_s": 0.0046, "tx_power_limit_w": 1.0}


def links(gain, count=2):
    return FixedLinks(gain=[gain] * count, noise_psd=4e-21, bandwidth_hz=2e6).states(0.0)


def slotted(slots, *, seed=0, price=60.0, selection="energy-to-go"):
    return SlottedAir(
        **AIR,
        slots=slots,
        selection=selection,
        outage_price=price,
        mean=links(GAIN),
        rng=np.random.default_rng(seed),
    )


def send(air, now, loads, tokens):
    return air.bursts(np.array(loads), now, tokens=tokens, direction=Direction.UP)


def test_one_block_is_slow_fading():
    now, air = links(0.7 * GAIN), slotted(1, price=1e6)
    bursts = send(air, now, [3, 0], 4)
    still = AirInterface(**AIR).bursts(np.array([3, 0]), now, tokens=4, direction=Direction.UP)
    assert bursts.energy_j == pytest.approx(still.energy_j, rel=1e-9)
    assert air.delivered == {0: 3}
    assert air.counts == {"sent": 3, "missed": 0}


def test_a_fade_that_costs_more_than_its_tokens_is_not_sent_through():
    air = slotted(1, price=10.0)
    bursts = send(air, links(1e-3 * GAIN), [2, 1], 3)
    assert bursts.energy_j.tolist() == [0.0, 0.0]
    assert air.counts == {"sent": 3, "missed": 3}


def test_more_blocks_cost_less_outage_priced():
    now = links(0.5 * GAIN)
    tables = [slotted(slots).energy_table(now, 1)[0, 1] for slots in (1, 4, 16)]
    assert tables[0] > 1.1 * tables[1] > 1.2 * tables[2]


def test_the_table_foresees_what_is_sent():
    """Expected energy-to-go, priced outage included, against many bursts; 4 sigma."""
    air, now = slotted(5, seed=3), links(0.4 * GAIN)
    expected = air.energy_table(now, 2)[0, 2]
    token_j = 60.0 * float(AirInterface(**AIR).energy_table(links(GAIN), 1)[0, 1])
    spent = []
    for _ in range(2000):
        bursts = send(air, now, [2, 0], 2)
        left = bursts.payload_bits[0] - bursts.rate_bps[0] * bursts.airtime_s[0]
        spent.append(bursts.energy_j[0] + token_j * left / 4096)
    error = np.std(spent) / np.sqrt(len(spent))
    assert np.mean(spent) == pytest.approx(expected, abs=4 * error + 0.01 * expected)


def test_other_selections_price_a_channel_that_stays():
    now = links(0.5 * GAIN)
    for selection, gain in (("current-gain", 0.5 * GAIN), ("mean-gain", GAIN)):
        table = slotted(5, selection=selection).energy_table(now, 3)
        np.testing.assert_allclose(table, AirInterface(**AIR).energy_table(links(gain), 3))


def test_tokens_that_were_not_delivered_are_not_computed():
    air = slotted(1)
    air.delivered.update({0: 1, 1: 2})
    plan = SelectionPlan(
        helper=np.array([[0, 1], [0, 0], [1, NOBODY]]),
        expert=np.array([[0, 1], [0, 2], [1, 3]]),
        weight=np.array([[0.6, 0.4], [0.7, 0.3], [1.0, 0.0]]),
        status=Status.FEASIBLE,
        energy_j=1.0,
        lower_bound_j=0.0,
        deviation=np.zeros(3),
    )
    seen = []
    experts = SimpleNamespace(run=lambda plan, hidden, layer: seen.append(plan))
    Lossy(experts, air).run(plan, np.zeros((3, 4), np.float32), layer=0)
    assert seen[0].helper.tolist() == [[0, 1], [NOBODY, NOBODY], [1, NOBODY]]
    assert seen[0].weight.tolist() == [[0.6, 0.4], [0.0, 0.0], [1.0, 0.0]]
