"""Energies of vectors of several widths, and the bursts that they become."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from siftmoe.coordinator.air.assembly import payload_of
from siftmoe.coordinator.air.control import header_bits
from siftmoe.coordinator.air.interface import AirInterface
from siftmoe.coordinator.energy.pricing import MOST_COLUMNS
from siftmoe.coordinator.layer.books import transmission_rows
from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.links.states import Direction
from siftmoe.coordinator.selection.problem import NOBODY, SelectionPlan, Status
from siftmoe.coordinator.selection.widths import HALF, Widths, parse_bits
from siftmoe.models.vectors.packing import row_bits

GAIN, BACK, NOISE, BAND, DEADLINE = [1e-8, 4e-8], [2e-8, 1e-8], 4e-21, 2e6, 2.3e-3
LINKS = FixedLinks(gain=GAIN, downlink_gain=BACK, noise_psd=NOISE, bandwidth_hz=BAND).states(0.0)
SIZE = 130  # no whole number of words, so that rows are padded
UP = (2, 3, 8, 16)
BACK_WIDTHS = (3, 16)


def air(**changes: Any) -> AirInterface:
    settings = {"token_deadline_s": DEADLINE, "tx_power_limit_w": 1.0}
    return AirInterface(**{**payload_of(SIZE, Widths(UP, (8,))), **settings, **changes})


def joule(bits: float, window_s: float, gain: float) -> float:
    return window_s * NOISE * BAND / gain * math.expm1(math.log(2) * bits / (BAND * window_s))


def plan_of(width: Any) -> SelectionPlan:
    """Slot i goes to helper i at these widths, 0 for not at all."""
    width = np.array(width)
    helper = np.where(width > 0, np.arange(width.shape[1]), NOBODY)
    return SelectionPlan(
        helper=helper,
        expert=np.where(width > 0, 0, 1),
        weight=np.ones(width.shape),
        width=width,
        status=Status.FEASIBLE,
        energy_j=0.0,
        lower_bound_j=0.0,
        deviation=np.zeros(len(width)),
    )


MIX = plan_of([[2, 16], [3, 0], [8, 8], [2, 0]])


def test_every_mix_costs_what_its_burst_does() -> None:
    pricing = air().pricing(LINKS, 4)
    assert pricing.pooled
    assert not pricing.rounded
    units = dict(zip(UP, pricing.units, strict=True))
    load = air().load(MIX, 2)
    up = air().bursts(load, LINKS, tokens=4, direction=Direction.UP)
    for n, widths in enumerate(([2, 3, 8, 2], [16, 8])):
        bits = sum(row_bits(SIZE, width) for width in widths)
        assert up.payload_bits[n] == bits
        assert up.energy_j[n] == pytest.approx(joule(bits, 4 * DEADLINE, GAIN[n]))
        column = sum(units[width] for width in widths)
        assert pricing.energy_j[n, column] == pytest.approx(up.energy_j[n])


def test_answers_have_a_width_of_their_own() -> None:
    load = air().load(MIX, 2)
    down = air().bursts(
        air().load_of(load.tokens, Direction.DOWN), LINKS, tokens=4, direction=Direction.DOWN
    )
    assert down.payload_bits.tolist() == [4 * row_bits(SIZE, 8), 2 * row_bits(SIZE, 8)]
    assert down.width == (8,)


def test_the_books_say_how_many_travelled_in_how_many_bits() -> None:
    load = air().load(MIX, 2)
    up = air().bursts(load, LINKS, tokens=4, direction=Direction.UP)
    rows = transmission_rows(up, LINKS, agents=("a", "b"), step=0, layer=0, now_s=0.0)
    assert [row.widths for row in rows] == ["2:2 3:1 8:1", "8:1 16:1"]


def test_windows_of_their_own_are_priced_by_way() -> None:
    apart = air(shared_window=False, downlink_price=0.5)
    pricing = apart.pricing(LINKS, 3)
    assert not pricing.pooled
    for n in range(2):
        for b, width in enumerate(UP):
            one = joule(row_bits(SIZE, width), DEADLINE, GAIN[n])
            one += 0.5 * joule(row_bits(SIZE, 8), DEADLINE, BACK[n])
            wanted = one * np.arange(4)
            np.testing.assert_allclose(pricing.energy_j[n * len(UP) + b], wanted)
    up = apart.bursts(apart.load(MIX, 2), LINKS, tokens=4, direction=Direction.UP)
    wanted = [
        sum(joule(row_bits(SIZE, w), DEADLINE, GAIN[n]) for w in widths)
        for n, widths in enumerate(([2, 3, 8, 2], [16, 8]))
    ]
    np.testing.assert_allclose(up.energy_j, wanted)
    np.testing.assert_allclose(up.airtime_s, [4 * DEADLINE, 2 * DEADLINE])


def test_what_the_power_limit_does_not_carry_is_infinite() -> None:
    bits = 2 * row_bits(SIZE, 16)
    watt = joule(bits, 2 * DEADLINE, GAIN[0]) / (2 * DEADLINE)
    pricing = air(tx_power_limit_w=1.001 * watt).pricing(LINKS, 2)
    whole = 2 * int(pricing.units[-1])
    assert np.isfinite(pricing.energy_j[0, whole])
    pricing = air(tx_power_limit_w=0.999 * watt).pricing(LINKS, 2)
    assert np.isinf(pricing.energy_j[0, whole])
    assert np.isfinite(pricing.energy_j[0, whole - 1])


def test_answers_that_do_not_fit_bound_the_load() -> None:
    weak = FixedLinks(gain=[1e-8], downlink_gain=[1e-19], noise_psd=NOISE, bandwidth_hz=BAND)
    pricing = air().pricing(weak.states(0.0), 4)
    assert np.isinf(pricing.energy_j[1, 1:]).all()  # no token at all
    assert np.isfinite(pricing.energy_j[0, : 4 * pricing.units.max() + 1]).all()


def test_a_table_that_would_be_too_long_has_larger_units() -> None:
    widths = Widths((2, 3, 8, 16), (8,))
    wide = replace(air(), **payload_of(4096, widths))
    pricing = wide.pricing(LINKS, 512)
    assert pricing.rounded
    assert pricing.energy_j.shape[1] <= 1.01 * MOST_COLUMNS
    ratio = pricing.units / pricing.units[-1]
    exact = np.array([row_bits(4096, width) for width in widths.up]) / row_bits(4096, 16)
    np.testing.assert_allclose(ratio, exact, rtol=0.02)
    assert (ratio >= exact * (1 - 1e-12)).all()


def test_a_plan_of_other_widths_is_refused() -> None:
    with pytest.raises(ValueError, match=r"vectors of \[0 4\] bits"):
        air().load(plan_of([[4, 0]]), 2)


def test_both_directions_have_a_load_a_table_and_a_price() -> None:
    both = air(**payload_of(SIZE, Widths(UP, BACK_WIDTHS)), downlink_price=0.5)
    pricing = both.pricing(LINKS, 4)
    assert pricing.energy_j.shape[0] == 4
    units = dict(zip(BACK_WIDTHS, pricing.reply_units, strict=True))
    for n in range(2):
        column = units[3] + 2 * units[16]
        bits = row_bits(SIZE, 3) + 2 * row_bits(SIZE, 16)
        wanted = 0.5 * joule(bits, 4 * DEADLINE, BACK[n])
        assert pricing.energy_j[2 + n, column] == pytest.approx(wanted)


def test_a_single_token_is_priced_by_way_with_its_own_headers() -> None:
    both = air(**payload_of(SIZE, Widths(UP, BACK_WIDTHS)), control=True)
    pricing = both.pricing(LINKS, 1)
    assert not pricing.pooled
    assert pricing.energy_j.shape == (2 * len(UP) * len(BACK_WIDTHS), 2)
    up = joule(row_bits(SIZE, 3) + header_bits(Direction.UP), DEADLINE, GAIN[1])
    down = joule(row_bits(SIZE, 16) + header_bits(Direction.DOWN), DEADLINE, BACK[1])
    way = (1 * len(UP) + 1) * len(BACK_WIDTHS) + 1
    assert pricing.energy_j[way, 1] == pytest.approx(up + down)


def test_one_width_sends_what_it_always_did() -> None:
    half = replace(air(), **payload_of(SIZE, HALF))
    assert half.payload_bits == 16 * SIZE
    assert half.widths == (16,)
    pricing = half.pricing(LINKS, 3)
    np.testing.assert_array_equal(pricing.energy_j, half.energy_table(LINKS, 3))


@pytest.mark.parametrize(
    ("up", "down", "found"),
    [((16,), None, 16), ((32,), None, 32), ((4,), None, 8), ((2, 16), None, 8), ((4,), 4, 4)],
)
def test_answers_follow_requests_unless_told(
    up: tuple[int, ...], down: int | None, found: int
) -> None:
    assert Widths.of(up, down).down == (found,)


@pytest.mark.parametrize(("up", "down"), [((7,), 16), ((16,), 12), ((), 16), ((4, 2), 8)])
def test_widths_that_no_entry_has_are_refused(up: tuple[int, ...], down: int) -> None:
    with pytest.raises(ValueError, match=r"bits, got|must ascend"):
        Widths(up, (down,))
    with pytest.raises(ValueError, match=r"bits, got|must ascend"):
        Widths((16,), up if up != (16,) else (down,))


@pytest.mark.parametrize("text", ["7", "eight", "-4", "4.5", ""])
def test_bits_that_are_none_are_named(text: str) -> None:
    with pytest.raises(ValueError, match=f"or one of 2, 3, .* got '{text}'"):
        parse_bits(text)
    assert parse_bits("auto") == "auto"
    assert parse_bits("6") == 6
