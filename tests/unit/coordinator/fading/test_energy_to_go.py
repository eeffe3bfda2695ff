from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from scipy.integrate import quad

from siftmoe.coordinator.fading.bounds import offline_energy, truncated_inversion
from siftmoe.coordinator.fading.energy_to_go import SlottedLink, energy_to_go, fading_energy_table
from siftmoe.coordinator.fading.gain_states import GainStates
from siftmoe.coordinator.fading.reselection import deliver, reselect

SLOT_S, BAND_HZ = 1e-3, 1e6
#: Bits of 1 bit/s/Hz in a slot.
UNIT_BITS = SLOT_S * BAND_HZ


def make_link(
    states: GainStates,
    *,
    slots: int,
    price: float = 60.0,
    limit: float = 100.0,
) -> SlottedLink:
    """A link with energies in units of tau N0 B, gains of order 1, and price per bit/s/Hz."""
    noise = 1.0 / (SLOT_S * BAND_HZ)
    return SlottedLink(
        states=states,
        num_slots=slots,
        slot_s=SLOT_S,
        bandwidth_hz=BAND_HZ,
        noise_psd=noise,
        tx_power_limit_w=limit / SLOT_S,
        outage_price_j=price / UNIT_BITS,
    )


def two_states(*, markov: bool) -> GainStates:
    rows = [[0.8, 0.2], [0.4, 0.6]] if markov else [[0.3, 0.7], [0.3, 0.7]]
    return GainStates(
        gain=np.array([0.2, 1.5]),
        upper=np.array([0.8]),
        initial=np.array([0.3, 0.7]),
        transition=np.array(rows),
    )


def full_search(link: SlottedLink, *, step: float, left: int, slot: int, state: int) -> float:
    """Energy-to-go by trying every number of steps in every slot."""

    @cache
    def go(slot: int, left: int, state: int) -> float:
        if slot == link.num_slots:
            return link.outage_price_j * left * step
        gain = float(link.states.gain[state])
        best = math.inf
        for sent in range(left + 1):
            if sent * step > link.slot_capacity_bits(gain) * (1 + 1e-12):
                break
            rest = sum(
                p * go(slot + 1, left - sent, h)
                for h, p in enumerate(link.states.transition[state])
            )
            best = min(best, link.slot_energy_j(sent * step, gain) + rest)
        return best

    return go(slot, left, state)


@pytest.mark.parametrize("markov", [False, True])
@pytest.mark.parametrize("limit", [3.0, 100.0, np.inf])
@pytest.mark.parametrize("price", [2.0, 60.0])
def test_equals_the_full_search(markov, limit, price):
    link = make_link(two_states(markov=markov), slots=4, price=price, limit=limit)
    step = 0.25 * UNIT_BITS
    to_go = energy_to_go(link, max_bits=16 * step, steps=16)
    for state in range(2):
        searched = [
            full_search(link, step=step, left=left, slot=0, state=state) for left in range(17)
        ]
        np.testing.assert_allclose(to_go.expected_j(state=state), searched, rtol=1e-12)
    gain = float(link.states.gain[1])
    for slot in range(4):
        value = to_go.value_j(slot, gain=gain, bits_left=10 * step)
        searched = full_search(link, step=step, left=10, slot=slot, state=1)
        assert value == pytest.approx(searched, rel=1e-12)


def test_a_known_channel_is_water_filled():
    rng = np.random.default_rng(0)
    for _ in range(10):
        gain = float(rng.exponential())
        slots = int(rng.integers(1, 8))
        link = make_link(GainStates.fixed(gain), slots=slots)
        bits = float(rng.uniform(1, 6)) * UNIT_BITS
        to_go = energy_to_go(link, max_bits=bits, steps=4000)
        bound = offline_energy(link, np.full((1, slots), gain), payload_bits=bits)[0]
        assert bound * (1 - 1e-9) <= to_go.expected_j()[-1] <= bound * (1 + 1e-4)


def test_energy_to_go_is_convex_and_nondecreasing():
    link = make_link(GainStates.rayleigh(1.0, bins=32, correlation=0.9), slots=10)
    to_go = energy_to_go(link, max_bits=8 * UNIT_BITS, steps=160)
    for state in (None, 0, 31):
        slopes = np.diff(to_go.expected_j(state=state))
        assert np.all(slopes > 0)
        assert np.all(np.diff(slopes) >= -1e-12)


def test_one_slot_agrees_with_quadrature():
    """Exact optimum of a Rayleigh slot: b = min(beta, log2(price g / ln 2)), under the limit."""
    price, beta, limit = 60.0, 3.0, 100.0
    link = make_link(GainStates.rayleigh(1.0, bins=256), slots=1, price=price, limit=limit)

    def cost(gain: float) -> float:
        best = math.log2(max(price * gain / math.log(2), 1.0))
        sent = min(beta, best, math.log2(1 + limit * gain))
        return ((2**sent - 1) / gain + price * (beta - sent)) * math.exp(-gain)

    exact = quad(cost, 1e-9, 0.3, limit=200)[0] + quad(cost, 0.3, 60.0, limit=200)[0]
    to_go = energy_to_go(link, max_bits=beta * UNIT_BITS, steps=300)
    assert to_go.expected_j()[-1] == pytest.approx(exact, rel=2e-3)


@pytest.mark.parametrize("cutoff", [0.05, 0.3, 1.0])
def test_truncated_inversion_agrees_with_quadrature_and_is_never_better(cutoff):
    beta, price, mean = 2.0, 60.0, 1.7
    link = make_link(GainStates.rayleigh(mean, bins=400), slots=1, price=price, limit=np.inf)
    energy, outage = truncated_inversion(
        payload_bits=beta * UNIT_BITS,
        slot_s=SLOT_S,
        bandwidth_hz=BAND_HZ,
        noise_psd=link.noise_psd,
        mean_gain=mean,
        cutoff_gain=cutoff,
    )
    searched = quad(lambda g: (2**beta - 1) / g * math.exp(-g / mean) / mean, cutoff, 200)[0]
    assert energy == pytest.approx(searched, rel=1e-7)
    assert outage == pytest.approx(1 - math.exp(-cutoff / mean), rel=1e-12)
    optimal = energy_to_go(link, max_bits=beta * UNIT_BITS, steps=200).expected_j()[-1]
    assert optimal <= energy + price * beta * outage


def test_the_causal_rule_needs_what_it_promises_and_no_less_than_the_offline_optimum():
    link = make_link(GainStates.rayleigh(1.0, bins=128), slots=5)
    bits = 4.0 * UNIT_BITS
    to_go = energy_to_go(link, max_bits=bits, steps=100)
    gains = np.random.default_rng(1).exponential(size=(3000, 5, 1))
    spent = []
    for draw in gains:
        result = deliver([to_go], draw, serving=0, payload_bits=bits)
        assert set(result.helpers) == {0}
        spent.append(result.energy_j + link.outage_price_j * result.undelivered_bits)
    error = np.std(spent) / math.sqrt(len(spent))
    assert abs(np.mean(spent) - to_go.expected_j()[-1]) < 4 * error
    offline = offline_energy(link, gains[:, :, 0], payload_bits=bits)
    assert np.all(np.array(spent) >= offline * (1 - 1e-9))
    assert 1.2 < np.mean(spent) / offline.mean() < 1.6  # about 1.41 for 5 slots


def test_more_slots_and_a_lower_price_never_cost_more():
    states = GainStates.rayleigh(1.0, bins=32)

    def energy(slots: int, price: float) -> float:
        link = make_link(states, slots=slots, price=price)
        return energy_to_go(link, max_bits=4 * UNIT_BITS, steps=80).expected_j()[-1]

    by_slots = [energy(slots, 60.0) for slots in (1, 2, 4, 8)]
    assert by_slots == sorted(by_slots, reverse=True)
    by_price = [energy(4, price) for price in (1.0, 5.0, 60.0, 200.0)]
    assert by_price == sorted(by_price)


def test_memory_helps_who_knows_the_first_gain():
    """With a static gain a good first slot promises good ones; drawn anew it does not."""
    bits = 4 * UNIT_BITS

    def energy(correlation: float) -> float:
        states = GainStates.rayleigh(1.0, bins=32, correlation=correlation)
        to_go = energy_to_go(make_link(states, slots=6), max_bits=bits, steps=80)
        return to_go.expected_j(state=31)[-1]

    assert energy(0.99) < energy(0.9) < energy(0.0)


def test_energy_table_is_what_selection_expects():
    links = [
        make_link(GainStates.rayleigh(mean, bins=24), slots=6, price=30.0) for mean in (0.5, 2.0)
    ]
    table = fading_energy_table(links, max_load=8, payload_bits=0.5 * UNIT_BITS, steps_per_token=10)
    assert table.shape == (2, 9)
    assert not table[:, 0].any()
    assert np.all(np.diff(table, axis=1) > 0)
    assert np.all(np.diff(table, n=2, axis=1) >= -1e-12)
    assert np.all(table[1, 1:] < table[0, 1:])
    one = energy_to_go(links[0], max_bits=0.5 * UNIT_BITS, steps=10).expected_j()[-1]
    assert table[0, 1] == pytest.approx(one, rel=1e-12)
    known = fading_energy_table(
        links, max_load=8, payload_bits=0.5 * UNIT_BITS, first_gain=np.array([5.0, 0.01])
    )
    assert known[0, 8] < table[0, 8]
    assert known[1, 8] > table[1, 8]


def test_reselection_is_better_than_committing():
    helpers, slots, bits = 3, 5, 4.0 * UNIT_BITS
    to_go = [
        energy_to_go(
            make_link(GainStates.rayleigh(mean, bins=64), slots=slots), max_bits=bits, steps=80
        )
        for mean in (1.0, 0.9, 0.8)
    ]
    gains = np.random.default_rng(2).exponential(size=(1500, slots, helpers)) * [1.0, 0.9, 0.8]
    saved = []
    changed = 0
    for draw in gains:
        commit = deliver(to_go, draw, serving=0, payload_bits=bits)
        free = deliver(to_go, draw, serving=0, payload_bits=bits, candidates=[0, 1, 2])
        price = to_go[0].link.outage_price_j
        saved.append(
            commit.energy_j
            - free.energy_j
            + price * (commit.undelivered_bits - free.undelivered_bits)
        )
        changed += len(set(free.helpers)) > 1 or free.helpers[0] != 0
    assert changed > 100
    assert np.mean(saved) > 3 * np.std(saved) / math.sqrt(len(saved))


def test_reselection_needs_a_reason():
    link = make_link(two_states(markov=False), slots=3)
    to_go = [energy_to_go(link, max_bits=4 * UNIT_BITS, steps=40)] * 2
    options = {"serving": 0, "payload_bits": 4 * UNIT_BITS, "candidates": [0, 1]}
    level = np.array([1.0, 1.0])
    assert reselect(to_go, slot=0, gains=level, bits_left=4 * UNIT_BITS, **options) == 0
    better = np.array([0.2, 5.0])
    assert reselect(to_go, slot=0, gains=better, bits_left=4 * UNIT_BITS, **options) == 1
    assert reselect(to_go, slot=2, gains=better, bits_left=0.1 * UNIT_BITS, **options) == 0


def test_actions_respect_the_power_limit():
    link = make_link(GainStates.rayleigh(1.0, bins=32), slots=4, limit=1.0)
    to_go = energy_to_go(link, max_bits=6 * UNIT_BITS, steps=60)
    for gain in (0.01, 0.5, 3.0):
        for slot in range(4):
            bits = to_go.action_bits(slot, gain=gain, bits_left=6 * UNIT_BITS)
            assert 0 <= bits <= link.slot_capacity_bits(gain) * (1 + 1e-5)


def test_rayleigh_states_have_the_law_they_are_named_for():
    states = GainStates.rayleigh(2.0, bins=50, correlation=0.8)
    assert states.gain @ states.initial == pytest.approx(2.0, rel=1e-12)
    assert np.mean([states.state_of(g) for g in states.gain]) == 24.5
    np.testing.assert_allclose(states.initial @ states.transition, states.initial, rtol=1e-2)
    # the power correlation of a Gauss-Markov response is the square of its correlation
    centred = states.gain - 2.0
    covariance = (states.initial * centred) @ states.transition @ centred
    variance = states.initial @ centred**2
    assert covariance / variance == pytest.approx(0.64, rel=0.02)
    assert GainStates.rayleigh(2.0, bins=50).memoryless
    assert not states.memoryless


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: make_link(GainStates.fixed(1.0), slots=0), "num_slots"),
        (lambda: make_link(GainStates.fixed(1.0), slots=1, price=np.inf), "outage_price_j"),
        (lambda: GainStates.fixed(0.0), "positive"),
        (lambda: GainStates.independent(np.array([1.0, 2.0]), np.array([0.5, 0.6])), "sum to 1"),
        (lambda: GainStates.rayleigh(1.0, bins=4, correlation=1.0), "correlation"),
        (
            lambda: energy_to_go(make_link(GainStates.fixed(1.0), slots=1), max_bits=0.0, steps=1),
            "max_bits",
        ),
    ],
)
def test_refuses(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_payloads_off_the_table_are_refused():
    to_go = energy_to_go(make_link(GainStates.fixed(1.0), slots=2), max_bits=100.0, steps=10)
    with pytest.raises(ValueError, match="200"):
        to_go.value_j(0, gain=1.0, bits_left=200.0)
    with pytest.raises(ValueError, match="slot"):
        to_go.value_j(2, gain=1.0, bits_left=50.0)
