"""One band for all helpers on the air: bursts, who hears them, and what is booked."""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from siftmoe.coordinator.air.interface import AirInterface
from siftmoe.coordinator.air.one_band import OneBandAir
from siftmoe.coordinator.config.radio import RadioEntry
from siftmoe.coordinator.energy.circuit import CircuitPower
from siftmoe.coordinator.layer.books import transmission_rows
from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.policies.siftmoe import SiftMoE
from siftmoe.coordinator.policies.topk import TopK
from siftmoe.coordinator.selection.problem import Budget, BudgetKind, SelectionProblem

NOISE, BAND, E = 4e-21, 2e6, 3
#: Helper n hosts expert n; helper 1 has the best link and helper 2 the worst.
LINKS = FixedLinks(gain=[2e-8, 4e-8, 1e-8], noise_psd=NOISE, bandwidth_hz=BAND).states(0.0)
UNICAST = AirInterface(payload_bits=65536, token_deadline_s=0.074, tx_power_limit_w=1.0)
BROADCAST = OneBandAir.over(UNICAST, broadcast=True)
APART = OneBandAir.over(UNICAST, broadcast=False)


def problem_of(air: AirInterface, routed: list[list[int]], *, price: float = 1.0):
    pricing = air.pricing(LINKS, len(routed))
    deviation = np.ones((E, E + 1))
    deviation[np.diag_indices(E)] = 0.0
    return SelectionProblem(
        routed_experts=np.array(routed),
        gate_weights=np.full((len(routed), len(routed[0])), 1.0 / len(routed[0])),
        hosts=np.eye(E, dtype=bool),
        local=np.zeros(E, dtype=bool),
        deviation=deviation,
        scale=np.ones((E, E + 1)),
        energy=pricing.energy_j,
        budget=Budget(kind=BudgetKind.PRICE, value=price),
        medium=pricing.medium,
    )


def sent(air: AirInterface, routed: list[list[int]], policy=None):
    problem = problem_of(air, routed)
    select = policy or TopK().select
    plan = select(problem)
    return plan, air.transfer(problem, plan, LINKS, policy=select)


ROUTED = [[0, 1], [1, 2], [1, 0], [2, 1]]


def test_a_token_for_two_helpers_is_one_transmission():
    plan, transfer = sent(BROADCAST, ROUTED)
    up, down = transfer.up, transfer.down
    assert up.helper.tolist() == [0, 2]
    assert up.tokens.tolist() == [2, 2]
    assert up.heard.tolist() == [[True, True, False], [True, True, True]]
    assert up.payload_bits.sum() == 4 * 65536
    assert up.airtime_s.sum() == pytest.approx(4 * 0.074, rel=1e-12)
    assert down.tokens.tolist() == [2, 4, 2]
    assert down.heard is None
    booked = up.energy_j.sum() + down.energy_j.sum()
    assert plan.energy_j == pytest.approx(booked, rel=1e-12)


def test_by_time_division_it_is_two_and_more_energy():
    plan, transfer = sent(APART, ROUTED)
    assert transfer.up.tokens.tolist() == [2, 4, 2]
    assert transfer.up.heard is None
    assert transfer.up.airtime_s.sum() == pytest.approx(4 * 0.074, rel=1e-12)
    together = sent(BROADCAST, ROUTED)[1]
    assert transfer.up.energy_j.sum() > 1.2 * together.up.energy_j.sum()
    np.testing.assert_allclose(transfer.down.energy_j, together.down.energy_j)
    assert plan.energy_j == pytest.approx(
        transfer.up.energy_j.sum() + transfer.down.energy_j.sum(), rel=1e-12
    )


def test_one_helper_s_burst_is_that_of_a_band_of_its_own():
    for air in (BROADCAST, APART):
        _, transfer = sent(air, [[0], [0]])
        _, own = sent(UNICAST, [[0], [0]])
        for one, other in ((transfer.up, own.up), (transfer.down, own.down)):
            np.testing.assert_allclose(one.energy_j, other.energy_j, rtol=1e-12)
            np.testing.assert_allclose(one.airtime_s, other.airtime_s, rtol=1e-12)


def test_control_rides_in_the_best_burst_that_its_helper_hears():
    air = replace(BROADCAST, control=True)
    _, transfer = sent(air, ROUTED)
    apart = sent(replace(APART, control=True), ROUTED)[1].up
    # helper 1 has no burst of its own threshold: its part rides with helper 0's
    assert transfer.up.helper.tolist() == [0, 2]
    assert transfer.up.control_bits.tolist() == [
        apart.control_bits[0] + apart.control_bits[1],
        apart.control_bits[2],
    ]


def test_whoever_hears_a_burst_receives_while_it_lasts():
    air = replace(BROADCAST, circuit=CircuitPower(user_tx_w=1e-9, helper_rx_w=2e-9))
    _, transfer = sent(air, ROUTED)
    up = transfer.up
    np.testing.assert_allclose(up.circuit_tx_j, 1e-9 * up.airtime_s)
    np.testing.assert_allclose(up.circuit_rx_j, 2e-9 * np.array([2, 3]) * up.airtime_s)
    medium = air.medium(LINKS, 4)
    np.testing.assert_allclose(medium.up.circuit_w, [5e-9, 3e-9, 7e-9])


def test_the_ledger_has_one_row_with_all_who_hear_it():
    _, transfer = sent(BROADCAST, ROUTED)
    where = {"agents": ("a", "b", "c"), "step": 0, "layer": 0, "now_s": 0.0}
    rows = list(transmission_rows(transfer.up, LINKS, **where))
    assert [(row.agent, row.tokens, row.heard) for row in rows] == [
        ("a", 2, "a b"),
        ("c", 2, "a b c"),
    ]
    assert [row.heard for row in transmission_rows(transfer.down, LINKS, **where)] == ["", "", ""]


@pytest.mark.parametrize("air", [BROADCAST, APART, replace(BROADCAST, shared_window=False)])
def test_siftmoe_uses_the_medium(air):
    problem = problem_of(air, ROUTED, price=1e-7)
    plan, kept = SiftMoE().select(problem), TopK().select(problem)
    objective = plan.energy_j + 1e-7 * plan.deviation.sum()
    assert objective <= kept.energy_j * (1 + 1e-12)
    assert plan.lower_bound_j <= objective
    assert plan.lower_bound_j > 0.9 * objective


def test_a_price_of_the_user_alone_leaves_answers_free():
    alone = replace(BROADCAST, downlink_price=0.0)
    assert alone.medium(LINKS, 4).down is None
    # unless the power limit could be too low for them
    assert replace(alone, tx_power_limit_w=1e-9).medium(LINKS, 4).down is not None


def test_what_does_not_fit_is_refused_by_the_air():
    weak = replace(BROADCAST, tx_power_limit_w=1e-9)
    problem = problem_of(BROADCAST, ROUTED)
    plan = TopK().select(problem)
    with pytest.raises(ValueError, match="do not fit one band"):
        weak.transfer(problem, plan, LINKS, policy=TopK().select)


def test_bands_of_different_widths_are_no_one_band():
    links = replace(LINKS, bandwidth_hz=np.array([1e6, 2e6, 2e6]))
    with pytest.raises(ValueError, match="same bandwidth"):
        BROADCAST.pricing(links, 2)


def test_a_shared_deadline_has_no_meaning_in_one_band():
    with pytest.raises(ValueError, match="a window for each direction"):
        OneBandAir.over(replace(UNICAST, deadline_shared=True), broadcast=True)


def test_tokens_with_windows_of_their_own():
    alone = replace(BROADCAST, shared_window=False)
    plan, transfer = sent(alone, ROUTED)
    assert transfer.up.airtime_s.tolist() == pytest.approx([2 * 0.074, 2 * 0.074])
    each = [sent(BROADCAST, [row])[1] for row in ROUTED]
    for side in ("up", "down"):
        one_by_one = sum(getattr(t, side).energy_j.sum() for t in each)
        assert getattr(transfer, side).energy_j.sum() == pytest.approx(one_by_one, rel=1e-12)
    booked = transfer.up.energy_j.sum() + transfer.down.energy_j.sum()
    assert plan.energy_j == pytest.approx(booked, rel=1e-12)
    # the answers of a token share its window, so in sum they are dearer than in a common one
    assert transfer.down.energy_j.sum() > sent(BROADCAST, ROUTED)[1].down.energy_j.sum()


@pytest.mark.parametrize("change", [{"deadline_shared": True}, {"fading_slots": 4}])
@pytest.mark.parametrize("uplink", ["broadcast", "tdma"])
def test_the_settings_say_so_too(uplink, change):
    with pytest.raises(ValueError, match=uplink):
        RadioEntry(uplink=uplink, **change)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"uplink": "multicast"}, RadioEntry)


def test_energies_of_loads_are_linear_at_a_usual_price():
    pricing = BROADCAST.pricing(LINKS, 3)
    assert pricing.energy_j.shape == (3, 4)
    np.testing.assert_allclose(
        np.diff(pricing.energy_j, axis=1), pricing.energy_j[:, 1:2] + [0] * 3
    )
    assert all(map(math.isfinite, pricing.energy_j.ravel()))
