"""Bursts over a channel that changes within them."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from siftmoe.coordinator.air.delivery import lose, missing
from siftmoe.coordinator.air.interface import AirInterface
from siftmoe.coordinator.air.slotted import SlottedAir
from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.links.states import Direction
from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.selection.problem import (
    NOBODY,
    Budget,
    BudgetKind,
    SelectionPlan,
    SelectionProblem,
    Status,
)

GAIN = 1e-8
AIR = {
    "payload_bits": 4096,
    "token_deadline_s": 0.0046,
    "tx_power_limit_w": 1.0,
    "downlink_price": 0.0,
}
TOPK = make_policy("topk")


def links(gain, count=2):
    return FixedLinks(gain=[gain] * count, noise_psd=4e-21, bandwidth_hz=2e6).states(0.0)


@functools.cache
def solved(slots, price):
    """Energies-to-go, shared by the airs of all tests."""
    return {}


def slotted(slots, *, seed=0, price=60.0, count=2, **options):
    return SlottedAir(
        **{**AIR, **options},
        slots=slots,
        outage_price=price,
        mean=links(GAIN, count),
        rng=np.random.default_rng(seed),
        solved=solved(slots, price),
    )


def problem_of(air, now, routed, hosts, *, budget=None):
    """Experts 0 and 1 of even weights; a replacement costs 0.1, a skip 1."""
    routed, hosts = np.array(routed), np.array(hosts, dtype=bool)
    deviation = np.full((hosts.shape[1], hosts.shape[1] + 1), 0.1)
    deviation[:, -1] = 1.0
    deviation[np.diag_indices(len(deviation))] = 0.0
    return SelectionProblem(
        routed_experts=routed,
        gate_weights=np.full(routed.shape, 0.5),
        hosts=hosts,
        local=np.zeros(hosts.shape[1], dtype=bool),
        deviation=deviation,
        scale=np.ones_like(deviation),
        energy=air.energy_table(now, len(routed)),
        budget=budget or Budget(kind=BudgetKind.PER_TOKEN, value=0.0),
    )


def send(air, now, routed, *, hosts=((1, 0), (0, 1)), policy=TOPK, budget=None):
    problem = problem_of(air, now, routed, hosts, budget=budget)
    return air.transfer(problem, policy(problem), now, policy=policy)


def test_one_block_is_slow_fading():
    now, air = links(0.7 * GAIN), slotted(1, price=1e6)
    sent = send(air, now, [[0], [0], [0], [1]])
    for bursts, direction in ((sent.up, Direction.UP), (sent.down, Direction.DOWN)):
        air = AirInterface(**AIR)
        load = air.load_of(np.array([3, 1]), direction)
        still = air.bursts(load, now, tokens=4, direction=direction)
        np.testing.assert_allclose(bursts.energy_j, still.energy_j, rtol=1e-9)
        np.testing.assert_allclose(bursts.airtime_s, still.airtime_s, rtol=1e-9)
        assert bursts.missed.tolist() == [0, 0]
    assert sent.lost == 0


def test_a_fade_that_costs_more_than_its_tokens_is_not_sent_through():
    sent = send(slotted(1, price=10.0), links(1e-3 * GAIN), [[0], [0], [1]])
    assert sent.up.energy_j.tolist() == sent.up.airtime_s.tolist() == [0.0, 0.0]
    assert sent.up.missed.tolist() == [2, 1]
    assert sent.lost == 3
    assert sent.down.helper.size == 0
    assert sent.plan.expert.tolist() == [[2], [2], [2]]
    assert sent.plan.deviation.tolist() == [0.5] * 3  # what a skip costs


def test_more_blocks_cost_less_outage_priced():
    now = links(0.5 * GAIN)
    tables = [slotted(slots).energy_table(now, 1)[0, 1] for slots in (1, 4, 16)]
    assert tables[0] > 1.1 * tables[1] > 1.2 * tables[2]


def outage_j(air):
    """Price of an undelivered bit."""
    token_j = AirInterface(**AIR).energy_table(links(GAIN), 1)[0, 1]
    return air.outage_price * float(token_j) / AIR["payload_bits"]


def test_the_table_foresees_what_is_sent():
    """Expected energy-to-go, priced outage included, against many bursts; 4 sigma."""
    air, now = slotted(5, seed=3), links(0.4 * GAIN)
    expected = air.energy_table(now, 2)[0, 2]
    spent = []
    for _ in range(2000):
        up = send(air, now, [[0], [0]]).up
        left = 2 * AIR["payload_bits"] - up.payload_bits[0]
        spent.append(up.energy_j[0] + outage_j(air) * left)
    error = np.std(spent) / np.sqrt(len(spent))
    assert np.mean(spent) == pytest.approx(expected, abs=4 * error + 0.01 * expected)


def test_other_selections_price_a_channel_that_stays():
    now = links(0.5 * GAIN)
    for selection, gain in (("current-gain", 0.5 * GAIN), ("mean-gain", GAIN)):
        table = slotted(5, selection=selection).energy_table(now, 3)
        np.testing.assert_allclose(table, AirInterface(**AIR).energy_table(links(gain), 3))


def test_answers_have_the_price_of_the_gain_at_which_they_are_sent():
    now, priced = links(0.5 * GAIN), {**AIR, "downlink_price": 0.5}
    free, both = slotted(5).energy_table(now, 3), slotted(5, downlink_price=0.5)
    down = AirInterface(**priced).bursts(
        AirInterface(**AIR).load_of(np.array([2, 0]), Direction.DOWN),
        now,
        tokens=3,
        direction=Direction.DOWN,
    )
    more = both.energy_table(now, 3) - free
    assert more[0, 2] == pytest.approx(0.5 * down.energy_j[0])


def cost(air, plan, sent, budget):
    """What became of one token, J; of what was lost, every token counts whole."""
    priced = budget is not None and budget.kind is BudgetKind.PRICE and not sent.lost
    arrived = {n for n in sent.plan.helper[0] if n >= 0}
    lost = len(set(plan.helper[0])) - len(arrived) if sent.lost else 0
    deviation = budget.value * sent.plan.deviation.sum() if priced else 0.0
    return sent.up.energy_j.sum() + outage_j(air) * AIR["payload_bits"] * lost + deviation


@pytest.mark.parametrize(
    ("policy", "hosts", "budget"),
    [
        ("topk", [[1, 0], [1, 0], [0, 1], [0, 1]], None),
        ("siftmoe", [[1, 0], [0, 1]] * 2, Budget(kind=BudgetKind.PER_TOKEN, value=0.1)),
        ("siftmoe", [[1, 0], [0, 1]] * 2, Budget(kind=BudgetKind.PRICE, value=1e-6)),
    ],
)
def test_to_select_again_is_better_than_to_stay(policy, hosts, budget):
    """The same channels with and without; energy, outage and deviation at their prices, 3 sigma."""
    select, now, gain = make_policy(policy), links(0.4 * GAIN, 4), []
    moved = 0
    for seed in range(400):
        total = {}
        for again in (False, True):
            air = slotted(6, seed=seed, count=4, reselect=again)
            problem = problem_of(air, now, [[0, 1]], hosts, budget=budget)
            plan = select(problem)
            sent = air.transfer(problem, plan, now, policy=select)
            total[again] = cost(air, plan, sent, budget)
            moved += again and len(sent.up.helper) > len(set(plan.helper[0]))
        gain.append(total[False] - total[True])
    assert moved > 10
    assert np.mean(gain) > 3 * np.std(gain) / np.sqrt(len(gain))


def test_a_helper_that_was_given_up_is_booked():
    hosts = [[1, 0], [1, 0]]
    found = []
    for seed in range(200):
        sent = send(slotted(6, seed=seed), links(0.2 * GAIN), [[0]], hosts=hosts)
        if len(sent.up.helper) == 2 and not sent.lost:
            found.append(sent)
    assert found
    for sent in found:
        (kept,) = sent.plan.helper[0]
        given_up = int(np.flatnonzero(sent.up.helper != kept)[0])
        assert sent.up.missed[given_up] == 1
        assert sent.up.energy_j[given_up] > 0.0
        assert 0.0 < sent.up.payload_bits[given_up] < AIR["payload_bits"]
        assert sent.up.airtime_s[given_up] < AIR["token_deadline_s"]
        assert sent.down.helper.tolist() == [kept]


def test_the_tokens_of_a_batch_stay_where_they_are():
    def once(problem):
        raise AssertionError("selected again")

    air, now = slotted(6), links(0.2 * GAIN)
    problem = problem_of(air, now, [[0], [0]], [[1, 0], [1, 0]])
    sent = air.transfer(problem, TOPK(problem), now, policy=once)
    assert sent.up.tokens.sum() == 2


def test_the_last_tokens_of_a_burst_are_the_ones_that_miss_it():
    air, now = slotted(1), links(GAIN)
    problem = problem_of(air, now, [[0, 1], [0, 0], [1, 0]], [[1, 0], [0, 1]])
    plan = SelectionPlan(
        helper=np.array([[0, 1], [0, 0], [1, NOBODY]]),
        expert=np.array([[0, 1], [0, 1], [1, 2]]),
        weight=np.array([[0.6, 0.4], [0.7, 0.3], [1.0, 0.0]]),
        width=np.array([[16, 16], [16, 16], [16, 0]]),
        status=Status.FEASIBLE,
        energy_j=1.0,
        lower_bound_j=0.0,
        deviation=np.array([0.0, 0.05, 0.5]),
    )
    whole = float(AIR["payload_bits"])
    lost = missing(plan, np.array([1.9, 2.0]) * whole, width=[16], bits=np.array([whole]))
    assert lost.tolist() == [[False, False], [True, True], [False, False]]
    rest = lose(problem, plan, lost)
    assert rest.helper.tolist() == [[0, 1], [NOBODY, NOBODY], [1, NOBODY]]
    assert rest.weight.tolist() == [[0.6, 0.4], [0.0, 0.0], [1.0, 0.0]]
    np.testing.assert_allclose(rest.deviation, [0.0, 1.0, 0.5])
    assert lose(problem, plan, np.zeros((3, 2), dtype=bool)) is plan


@pytest.mark.parametrize("change", [{"deadline_shared": True}, {"shared_window": False}])
def test_what_has_no_meaning_under_fast_fading_is_told(change):
    with pytest.raises(ValueError, match="one window per batch"):
        slotted(4, **change)
    with pytest.raises(ValueError, match="must be positive"):
        slotted(0)
