"""Bursts on the air against the closed form."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from siftmoe.coordinator.air.interface import AirInterface
from siftmoe.coordinator.layer.books import transmission_rows
from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.links.states import Direction
from siftmoe.radio.channel.link import ChannelOrigin, Source

if TYPE_CHECKING:
    from siftmoe.coordinator.air.interface import Bursts
    from siftmoe.coordinator.links.states import LinkStates

GAIN, BACK, NOISE, BAND = [1e-8, 4e-8], [2e-8, 1e-8], 4e-21, 2e6
LINKS = FixedLinks(gain=GAIN, downlink_gain=BACK, noise_psd=NOISE, bandwidth_hz=BAND).states(1.5)


def bursts_of(
    interface: AirInterface, loads: Any, links: LinkStates, *, tokens: int, direction: Direction
) -> Bursts:
    load = interface.load_of(np.asarray(loads), direction)
    return interface.bursts(load, links, tokens=tokens, direction=direction)


def air(**changes: Any) -> AirInterface:
    # a Mixtral token in the paper's deadline
    settings = {"payload_bits": 65536, "token_deadline_s": 0.074, "tx_power_limit_w": 1.0}
    return AirInterface(**{**settings, **changes})


def closed_form(tokens: int, batch: int, gain: float) -> float:
    window = batch * 0.074
    return window * NOISE * BAND / gain * math.expm1(math.log(2) * tokens * 65536 / (BAND * window))


def test_a_token_is_at_the_papers_operating_point() -> None:
    assert air().bits_per_hertz(BAND) == pytest.approx(0.44, rel=0.01)


def test_the_energy_of_a_token_is_the_closed_form() -> None:
    one = bursts_of(air(), np.array([1, 0]), LINKS, tokens=1, direction=Direction.UP)
    # tau N0 B / g (2^(b/(B tau)) - 1), all figures put in by hand
    by_hand = 0.074 * 4e-21 * 2e6 / 1e-8 * (2**0.442811 - 1)
    assert one.energy_j[0] == pytest.approx(by_hand, rel=1e-5)
    assert one.energy_j[0] == pytest.approx(closed_form(1, 1, GAIN[0]), rel=1e-12)
    assert one.helper.tolist() == [0]


@pytest.mark.parametrize(("direction", "gain"), [(Direction.UP, GAIN), (Direction.DOWN, BACK)])
def test_a_batch_shares_its_tokens_deadlines(direction: Direction, gain: list[float]) -> None:
    bursts = bursts_of(air(), np.array([3, 5]), LINKS, tokens=6, direction=direction)
    assert bursts.tokens.tolist() == [3, 5]
    assert bursts.airtime_s.tolist() == pytest.approx([6 * 0.074] * 2)
    for n, load in enumerate((3, 5)):
        energy = closed_form(load, 6, gain[n])
        assert bursts.energy_j[n] == pytest.approx(energy, rel=1e-12)
        assert bursts.tx_power_w[n] * bursts.airtime_s[n] == pytest.approx(energy, rel=1e-12)
        assert bursts.rate_bps[n] * bursts.airtime_s[n] == pytest.approx(load * 65536)


def test_the_table_has_the_energies_of_the_bursts() -> None:
    table = air(downlink_price=0.25).energy_table(LINKS, 4)
    assert table.shape == (2, 5)
    for load in range(1, 5):
        loads = np.array([load, load])
        up = bursts_of(air(), loads, LINKS, tokens=4, direction=Direction.UP)
        down = bursts_of(air(), loads, LINKS, tokens=4, direction=Direction.DOWN)
        np.testing.assert_allclose(table[:, load], up.energy_j + 0.25 * down.energy_j, rtol=1e-12)
    free = air(downlink_price=0.0).energy_table(LINKS, 4)
    assert free[0, 3] == pytest.approx(closed_form(3, 4, GAIN[0]))


def test_what_cannot_come_back_cannot_be_sent() -> None:
    """The power limit that the weaker direction needs for one token, less a little."""
    weaker = closed_form(1, 1, BACK[1]) / 0.074
    limited = air(tx_power_limit_w=0.999 * weaker).energy_table(LINKS, 1)
    assert np.isinf(limited[1, 1])
    assert np.isfinite(air(tx_power_limit_w=1.001 * weaker).energy_table(LINKS, 1)[1, 1])


def test_latency_is_of_the_slowest_helper() -> None:
    timed = air(compute_s_per_token=0.01)
    loads = np.array([1, 4])
    up = bursts_of(timed, loads, LINKS, tokens=5, direction=Direction.UP)
    down = bursts_of(timed, loads, LINKS, tokens=5, direction=Direction.DOWN)
    assert timed.airtime_s(up, down) == pytest.approx(2 * 5 * 0.074)
    assert timed.latency_s(up, down) == pytest.approx(2 * 5 * 0.074 + 4 * 0.01)
    nobody = bursts_of(timed, np.zeros(2, int), LINKS, tokens=5, direction=Direction.UP)
    assert timed.latency_s(nobody, nobody) == timed.airtime_s(nobody, nobody) == 0.0


def test_windows_of_their_own_make_the_energy_linear() -> None:
    apart = air(shared_window=False, downlink_price=0.0)
    table = apart.energy_table(LINKS, 5)
    single = closed_form(1, 1, GAIN[0])
    np.testing.assert_allclose(table[0], single * np.arange(6), rtol=1e-12)
    loads = np.array([3, 2])
    up = bursts_of(apart, loads, LINKS, tokens=5, direction=Direction.UP)
    assert up.energy_j[0] == pytest.approx(3 * single)
    assert up.airtime_s.tolist() == pytest.approx([3 * 0.074, 2 * 0.074])
    # the layer takes as long as with one window for all
    assert apart.latency_s(up, up) == air().latency_s(up, up) == pytest.approx(2 * 5 * 0.074)


def test_a_token_that_no_power_carries_stays_impossible_in_its_own_window() -> None:
    limited = air(shared_window=False, tx_power_limit_w=1e-15).energy_table(LINKS, 3)
    assert (limited[:, 0] == 0.0).all()
    assert np.isinf(limited[:, 1:]).all()


def both_ways(interface: AirInterface, loads: list[int], tokens: int) -> tuple[Any, Any]:
    up, down = (
        bursts_of(interface, np.array(loads), LINKS, tokens=tokens, direction=direction)
        for direction in Direction
    )
    return up, down


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("price", [0.25, 4.0])
def test_a_shared_deadline_is_spent_to_the_end_at_the_price_of_the_table(
    price: float, together: bool
) -> None:
    one = air(
        deadline_shared=True, shared_window=together, downlink_price=price, compute_s_per_token=0.01
    )
    table = one.energy_table(LINKS, 4)
    for load in range(1, 5):
        up, down = both_ways(one, [load, load], 4)
        np.testing.assert_allclose(table[:, load], up.energy_j + price * down.energy_j, rtol=1e-12)
        window = (4 if together else load) * 0.074
        np.testing.assert_allclose(up.airtime_s + down.airtime_s + load * 0.01, window, rtol=1e-12)
        assert one.latency_s(up, down) == pytest.approx(4 * 0.074)
        assert one.airtime_s(up, down) == pytest.approx(window - load * 0.01)


def test_a_shared_deadline_is_divided_for_less_than_into_halves() -> None:
    """Twice the deadline of one direction for both: no division can be dearer than halves."""
    halves = air(downlink_price=1.0).energy_table(LINKS, 3)
    best = air(token_deadline_s=0.148, deadline_shared=True, downlink_price=1.0)
    table = best.energy_table(LINKS, 3)
    assert (table[:, 1:] < halves[:, 1:]).all()
    up, down = both_ways(best, [0, 3], 3)
    assert down.airtime_s[0] > 1.2 * up.airtime_s[0]  # back on a quarter of the gain


def test_an_unpriced_answer_comes_at_full_power() -> None:
    free = air(deadline_shared=True, tx_power_limit_w=1e-5, downlink_price=0.0)
    up, down = both_ways(free, [2, 1], 2)
    np.testing.assert_allclose(down.tx_power_w, 1e-5, rtol=1e-9)
    np.testing.assert_allclose(free.energy_table(LINKS, 2)[[0, 1], [2, 1]], up.energy_j)


def test_what_compute_leaves_no_time_for_is_impossible() -> None:
    slow = air(deadline_shared=True, compute_s_per_token=0.05)
    table = slow.energy_table(LINKS, 2)  # 0.148 s: two tokens leave 0.048 s
    assert np.isfinite(table).all()
    slower = air(deadline_shared=True, compute_s_per_token=0.075)
    assert np.isinf(slower.energy_table(LINKS, 2)[:, 2]).all()
    assert np.isfinite(slower.energy_table(LINKS, 2)[:, 1]).all()
    with pytest.raises(ValueError, match="do not fit a deadline"):
        both_ways(slower, [2, 0], 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"payload_bits": 0}, "payload_bits must be positive"),
        ({"token_deadline_s": 0.0}, "token_deadline_s must be positive"),
        ({"tx_power_limit_w": float("nan")}, "tx_power_limit_w must be positive"),
        ({"downlink_price": -1.0}, "downlink_price is -1.0, must be finite and not negative"),
        ({"downlink_price": float("nan")}, "downlink_price is nan, must be finite"),
        ({"uplink_price": 0.0, "downlink_price": 0.0}, "every plan costs nothing"),
        ({"compute_s_per_token": -1.0}, "cannot be negative"),
    ],
)
def test_impossible_settings_are_told(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        air(**change)


def test_a_burst_becomes_a_row() -> None:
    bursts = bursts_of(air(), np.array([0, 2]), LINKS, tokens=3, direction=Direction.DOWN)
    (row,) = transmission_rows(bursts, LINKS, agents=("a", "b"), step=7, layer=3, now_s=1.75)
    assert (row.agent, row.step, row.layer, row.time_s, row.tokens) == ("b", 7, 3, 1.75, 2)
    assert (row.direction, row.payload_bits) == ("down", 2 * 65536)
    assert row.energy_j == pytest.approx(closed_form(2, 3, BACK[1]), rel=1e-12)
    assert (row.energy_source, row.channel_origin) == (Source.MODELLED, ChannelOrigin.FIXED)
    assert (row.channel_gain, row.channel_age_s) == (BACK[1], 0.25)


def test_the_energy_is_as_uncertain_as_the_gain() -> None:
    unsure = dataclasses.replace(
        LINKS, uplink_gain_std=np.array([1e-9, 4e-9]), downlink_gain_std=np.array([0.0, 0.0])
    )
    bursts = bursts_of(air(), np.array([1, 1]), unsure, tokens=1, direction=Direction.UP)
    for row in transmission_rows(bursts, unsure, agents=("a", "b"), step=0, layer=0, now_s=2.0):
        assert row.energy_std_j == pytest.approx(0.1 * row.energy_j)
        assert row.tx_power_std_w == pytest.approx(0.1 * row.tx_power_w)
