"""Fast fading with a chosen width for every vector."""

from __future__ import annotations

import functools
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from siftmoe.coordinator.air.delivery import missing
from siftmoe.coordinator.air.interface import AirInterface
from siftmoe.coordinator.air.reselection import select_again
from siftmoe.coordinator.air.slotted import SlottedAir
from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.links.states import Direction
from siftmoe.coordinator.policies.loads.tables import plan_energy
from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.selection.precision import Precision, Replies
from siftmoe.coordinator.selection.problem import (
    NOBODY,
    Budget,
    BudgetKind,
    SelectionPlan,
    SelectionProblem,
    Status,
)

GAIN = 1e-8
WIDTHS = {2: 272, 4: 528, 8: 1040}  # of 128 entries
AIR = {
    "payload_bits": 2064,
    "token_deadline_s": 0.0046,
    "tx_power_limit_w": 1.0,
    "reply_bits": 1040,
    "reply_width": 8,
    "downlink_price": 0.0,
}
SELECT = make_policy("siftmoe")
#: What a slot loses at each width, as a share of what a skip does.
GAP = {2: 0.12, 4: 0.012, 8: 0.0001}
#: What an answer of a width adds, as a share of what returns.
NOISE = {4: 0.02, 8: 0.0}
E = 2
PRICE = Budget(kind=BudgetKind.PRICE, value=3e-9)


def links(gain, count=2):
    return FixedLinks(gain=[gain] * count, noise_psd=4e-21, bandwidth_hz=2e5).states(0.0)


@functools.cache
def solved(slots, price, widths):
    """Energies-to-go, shared by the airs of all tests."""
    return {}


def slotted(slots, *, seed=0, price=60.0, count=2, widths=WIDTHS, air=None, **options):
    one = {} if len(widths) > 1 else {"payload_bits": next(iter(widths.values()))}
    air = SlottedAir(
        **{**AIR, **one, **(air or {})},
        width_bits=widths if len(widths) > 1 else {},
        slots=slots,
        outage_price=price * AIR["payload_bits"] / {**AIR, **one}["payload_bits"],
        mean=links(GAIN, count),
        rng=np.random.default_rng(seed),
        solved=solved(slots, price, tuple(widths)),
        **options,
    )
    # of one width too, an undelivered bit costs what one of AIR's payload does
    return air if not one else replace(air, outage_price=price_of_bit(price) / own_bit(air))


def price_of_bit(price):
    token_j = AirInterface(**AIR).energy_table(links(GAIN), 1)[0, 1]
    return price * float(token_j) / AIR["payload_bits"]


def own_bit(air):
    token_j = AirInterface(**{**AIR, "payload_bits": air.payload_bits}).energy_table(links(GAIN), 1)
    return float(token_j[0, 1]) / air.payload_bits


def problem_of(air, now, routed, hosts, budget):
    routed, hosts = np.array(routed), np.array(hosts, dtype=bool)
    exact = np.full((E, E + 1), 0.3)
    exact[:, -1] = 1.0
    exact[np.diag_indices(E)] = 0.0
    narrow = np.stack([exact + gap for gap in GAP.values()])
    narrow[:, :, -1] = 1.0
    pricing = air.pricing(now, len(routed))
    back = air.reply_widths
    known = np.ones((len(hosts), len(WIDTHS)), dtype=bool)
    precision = Precision(
        width=np.array(list(WIDTHS)),
        deviation=narrow,
        scale=1.0 + 0.01 * narrow,
        known=known,
        units=pricing.units,
        pooled=pricing.pooled,
        rounded=pricing.rounded,
        replies=Replies(
            width=np.array(back),
            noise=np.array([NOISE[width] for width in back]),
            known=known[:, : len(back)],
            units=pricing.reply_units,
        ),
    )
    return SelectionProblem(
        routed_experts=routed,
        gate_weights=np.full(routed.shape, 0.5),
        hosts=hosts,
        local=np.zeros(E, dtype=bool),
        deviation=exact,
        scale=np.ones_like(exact),
        energy=pricing.energy_j,
        budget=budget,
        precision=precision,
    )


def test_one_width_of_the_table_is_the_table_of_that_width():
    now = links(0.4 * GAIN)
    pricing = slotted(5).pricing(now, 3)
    assert not pricing.rounded
    for width, units in zip(WIDTHS, pricing.units, strict=True):
        one = slotted(5, widths={width: WIDTHS[width]}).pricing(now, 3)
        of_width = pricing.energy_j[:2, : 3 * units + 1 : units]
        np.testing.assert_allclose(of_width, one.energy_j, rtol=2e-3)


def test_one_block_is_slow_fading():
    """What the tables say of it is right up to the states of the gain, what is sent is right."""
    now, still = links(0.7 * GAIN), AirInterface(**AIR, width_bits=WIDTHS)
    air = slotted(1, price=1e6)
    table = air.pricing(now, 2)
    slow_j = still.pricing(now, 2).energy_j
    whole = 2 * table.units[-1] + 1
    np.testing.assert_allclose(table.energy_j[:2, :whole], slow_j[:2, :whole], rtol=0.03)
    np.testing.assert_array_equal(table.energy_j[2:, :3], slow_j[2:, :3])
    problem = problem_of(air, now, [[0, 1], [0, 1]], [[1, 0], [0, 1]], PRICE)
    plan = plan_of([[0, 1], [0, NOBODY]], [[2, 8], [4, 0]])
    fast, slow = (a.transfer(problem, plan, now, policy=SELECT) for a in (air, still))
    for one, other in ((fast.up, slow.up), (fast.down, slow.down)):
        np.testing.assert_allclose(one.energy_j, other.energy_j, rtol=1e-9)
        np.testing.assert_array_equal(one.payload_bits, other.payload_bits)
        np.testing.assert_array_equal(one.by_width, other.by_width)


def test_a_table_that_would_be_too_long_is_rounded_up_and_says_so():
    air, now = slotted(2), links(GAIN)
    pricing = air.pricing(now, 600)
    assert pricing.rounded
    assert pricing.energy_j.shape[1] < 40_000
    assert (
        pricing.units / np.array(list(WIDTHS.values())) >= 600 * 1 / pricing.energy_j.size
    ).all()
    assert np.isfinite(pricing.energy_j[:2]).all()


def test_the_table_foresees_what_is_sent():
    """Expected energy-to-go of a mixed batch, outage included, against many bursts; 4 sigma."""
    air, now = slotted(5, seed=3, count=1), links(0.4 * GAIN, 1)
    problem = problem_of(air, now, [[0], [0]], [[1, 0]], PRICE)
    plan = plan_of([[0], [0]], [[2], [8]])
    bits = WIDTHS[2] + WIDTHS[8]
    expected = float(problem.energy[0, bits // 16])
    spent = []
    for _ in range(2000):
        up = air.transfer(problem, plan, now, policy=SELECT).up
        spent.append(up.energy_j.sum() + price_of_bit(60.0) * (bits - up.payload_bits.sum()))
    error = np.std(spent) / np.sqrt(len(spent))
    assert np.mean(spent) == pytest.approx(expected, abs=4 * error + 0.01 * expected)


def plan_of(helper, width, expert=None):
    helper, width = np.array(helper), np.array(width)
    return SelectionPlan(
        helper=helper,
        expert=np.where(helper >= 0, 0, E) if expert is None else np.array(expert),
        weight=np.where(helper >= 0, 0.5, 0.0),
        width=width,
        status=Status.FEASIBLE,
        energy_j=1.0,
        lower_bound_j=0.0,
        deviation=np.zeros(len(helper)),
    )


def test_a_batch_books_the_bits_of_its_widths_and_answers_of_one():
    air, now = slotted(3, price=1e6), links(GAIN)
    problem = problem_of(air, now, [[0, 1]] * 3, [[1, 0], [0, 1]], PRICE)
    plan = plan_of([[0, 1], [0, NOBODY], [0, 1]], [[2, 8], [4, 0], [8, 4]])
    sent = air.transfer(problem, plan, now, policy=SELECT)
    assert sent.lost == 0
    assert sent.up.width == (2, 4, 8)
    assert sent.up.by_width.tolist() == [[1, 1, 1], [0, 1, 1]]
    assert sent.up.tokens.tolist() == [3, 2]
    assert sent.up.payload_bits.tolist() == [272 + 528 + 1040, 528 + 1040]
    assert (sent.down.tokens.tolist(), sent.down.payload_bits.tolist()) == ([3, 2], [3120, 2080])


def test_the_last_tokens_of_a_burst_miss_it_by_their_own_bits():
    plan = plan_of([[0, 0], [0, 1], [0, NOBODY]], [[8, 8], [2, 4], [4, 0]])
    bits = np.array(list(WIDTHS.values()), dtype=float)

    def lost(*received):
        return missing(
            plan, np.array(received, dtype=float), width=list(WIDTHS), bits=bits
        ).tolist()

    everything = [[False, False]] * 3
    assert lost(1840, 528) == everything
    assert lost(1839, 528) == [[False, False], [False, False], [True, False]]
    assert lost(1311, 527) == [[False, False], [True, True], [True, False]]
    assert lost(1039, 0) == [[True, True], [True, True], [True, False]]


def objective(problem, plan, cost):
    """Energy of what is used and the price of deviations, from the plan's slots alone."""
    used = {(n, w) for n, w in zip(plan.helper[0], plan.width[0], strict=True) if n >= 0}
    widths = list(WIDTHS)
    energy = sum(cost[n, widths.index(w)] for n, w in used)
    return energy + problem.budget.value * deviation_of(problem, plan)


def deviation_of(problem, plan):
    total = 0.0
    slots = (problem.routed_experts[0], plan.expert[0], plan.helper[0], plan.width[0])
    for i, j, n, w in zip(*slots, strict=True):
        table = problem.deviation
        if n >= 0:
            table = problem.precision.deviation[list(WIDTHS).index(w)]
        total += 0.5 * table[i, j]
    return total


@pytest.mark.parametrize("seed", range(40))
def test_what_is_selected_on_the_way_is_the_best_of_all(seed):
    """Against enumeration; some of what helpers need has arrived already and costs nothing."""
    rng = np.random.default_rng(seed)
    air, now = slotted(4, count=3), links(GAIN, 3)
    hosts = np.array([[1, 0], [0, 1], [1, 1]], dtype=bool)
    problem = problem_of(air, now, [[0, 1]], hosts, PRICE)
    cost = np.sort(rng.uniform(0.1, 1.0, (3, 3)), axis=1) * 3e-10
    cost[rng.random((3, 3)) < 0.25] = 0.0
    before = plan_of([[0, 1]], [[8, 8]], expert=[[0, 1]])
    found = select_again(problem, before, cost[:, :, None], SELECT)

    best = np.inf
    options = [(NOBODY, 0, E), *product(range(3), WIDTHS, range(E))]
    for pair in product(options, repeat=2):
        if any(n >= 0 and not hosts[n, j] for n, _, j in pair):
            continue
        helper, width, expert = ([[slot[part] for slot in pair]] for part in range(3))
        best = min(best, objective(problem, plan_of(helper, width, expert), cost))
    assert objective(problem, found, cost) == pytest.approx(best, rel=1e-12)
    for n in range(3):
        assert len({int(w) for w in found.width[0][found.helper[0] == n]}) <= 1
    changed = found.helper.tolist() != before.helper.tolist() or (
        found.width.tolist() != before.width.tolist()
    )
    if changed:
        np.testing.assert_allclose(found.deviation, deviation_of(problem, found), rtol=1e-12)
        scale = problem.serving_scale(found.expert, found.width)
        np.testing.assert_allclose(found.weight, 0.5 * scale)


def test_to_select_again_is_better_than_to_stay_and_takes_other_widths_too():
    """The same channels with and without; energy, outage and deviation at their prices, 3 sigma."""
    now, gain, hosts = links(0.4 * GAIN, 4), [], [[1, 0], [0, 1]] * 2
    other_width = twice = 0
    for seed in range(300):
        total = {}
        for again in (False, True):
            air = slotted(6, seed=seed, count=4, reselect=again)
            problem = problem_of(air, now, [[0, 1]], hosts, PRICE)
            plan = SELECT(problem)
            sent = air.transfer(problem, plan, now, policy=SELECT)
            total[again] = sent.up.energy_j.sum() + PRICE.value * sent.plan.deviation.sum()
            if again:
                assert (sent.up.by_width.sum(axis=1) == sent.up.tokens).all()
                assert (
                    (sent.up.by_width > 0) @ list(WIDTHS.values()) >= sent.up.payload_bits
                ).all()
                other_width += sent.plan.width.tolist() != plan.width.tolist()
                twice += bool((sent.up.tokens > 1).any())  # one helper, at two widths
                assert sent.down.tokens.tolist() == [1] * len(sent.down.helper)
        gain.append(total[False] - total[True])
    assert other_width > 20
    assert twice > 5
    assert np.mean(gain) > 3 * np.std(gain) / np.sqrt(len(gain))


BOTH = {"downlink_price": 1.0, "reply_width_bits": {4: 528, 8: 1040}}


@pytest.mark.parametrize("tokens", [1, 3])
def test_answers_of_chosen_widths_are_priced_and_booked_as_they_are_sent(tokens):
    """A token is predicted its energy-to-go and its answer's energy, and so is a batch."""
    now = links(0.7 * GAIN)
    priced, free = slotted(4, price=1e6, air=BOTH), slotted(4, price=1e6)
    problem = problem_of(priced, now, [[0, 1]] * tokens, [[1, 0], [0, 1]], PRICE)
    plan = SELECT(problem)
    assert {*np.unique(plan.reply_width)} <= {0, 4, 8}
    sent = priced.transfer(problem, plan, now, policy=SELECT)
    assert sent.down.width == (4, 8)
    wanted = sent.plan.replies_by_width(2, (4, 8))
    assert wanted.sum() >= tokens
    np.testing.assert_array_equal(sent.down.by_width, wanted[sent.down.helper])
    up = replace(plan, reply_width=None)
    before = problem_of(free, now, [[0, 1]] * tokens, [[1, 0], [0, 1]], PRICE)
    still = AirInterface(**{**AIR, **BOTH, "width_bits": WIDTHS})
    back = still.bursts(
        still.load_back(plan, 2), now, tokens=tokens, direction=Direction.DOWN
    ).energy_j.sum()
    assert plan.energy_j == pytest.approx(plan_energy(before, up) + back, rel=1e-9)


def test_dear_answers_come_in_fewer_bits():
    now, hosts = links(0.7 * GAIN), [[1, 0], [0, 1]]
    found = {}
    for price in (0.01, 1.0):
        air = slotted(4, price=1e6, air={**BOTH, "downlink_price": price})
        plan = SELECT(problem_of(air, now, [[0, 1]] * 3, hosts, PRICE))
        found[price] = plan.reply_width[plan.helper >= 0].mean()
    assert found[1.0] < found[0.01]
