from __future__ import annotations

import numpy as np
import pytest

from siftmoe.coordinator.energy.roundtrip import OneWay, RoundTrip
from siftmoe.coordinator.energy.tables import uplink_energy_table
from siftmoe.radio.channel.link import shannon_rate, transmit_energy

NOISE = 4e-21
BITS = 65536.0
WINDOW = 0.074


def one_way(gain: list[float], *, limit_w: float = np.inf) -> OneWay:
    n = len(gain)
    return OneWay(
        bandwidth_hz=np.full(n, 2e6),
        gain=np.array(gain),
        noise_psd=np.full(n, NOISE),
        tx_power_limit_w=np.full(n, limit_w),
    )


def uplink(way: OneWay, *, max_load: int, window_s: float = WINDOW) -> np.ndarray:
    return uplink_energy_table(
        max_load=max_load,
        payload_bits=BITS,
        window_s=window_s,
        bandwidth_hz=way.bandwidth_hz,
        gain=way.gain,
        noise_psd=way.noise_psd,
        tx_power_limit_w=way.tx_power_limit_w,
    )


def test_one_token_costs_shannons_energy():
    table = uplink(one_way([1e-10, 2e-10]), max_load=3)
    by_hand = WINDOW * NOISE * 2e6 / 1e-10 * (2 ** (BITS / (2e6 * WINDOW)) - 1)
    assert table[0, 1] == pytest.approx(by_hand, rel=1e-12)
    assert table[0, 1] == pytest.approx(2 * table[1, 1], rel=1e-12)
    assert np.all(table[:, 0] == 0.0)


def test_loads_beyond_the_power_limit_cost_infinity():
    limit = 3e-3
    way = one_way([1e-10, 1e-12], limit_w=limit)
    table = uplink(way, max_load=40)
    power = uplink(one_way([1e-10, 1e-12]), max_load=40) / WINDOW
    np.testing.assert_array_equal(np.isfinite(table), power <= limit)
    assert 1 < np.isfinite(table[0]).sum() < 40


def test_a_load_that_fills_the_link_exactly_is_carried():
    rate = shannon_rate(tx_power_w=1e-3, bandwidth_hz=2e6, gain=1e-10, noise_psd=NOISE)
    table = uplink_energy_table(
        max_load=4,
        payload_bits=float(rate) * WINDOW / 3,
        window_s=WINDOW,
        bandwidth_hz=np.array([2e6]),
        gain=np.array([1e-10]),
        noise_psd=np.array([NOISE]),
        tx_power_limit_w=np.array([1e-3]),
    )
    np.testing.assert_array_equal(np.isfinite(table[0]), [True, True, True, True, False])
    assert table[0, 3] == pytest.approx(1e-3 * WINDOW, rel=1e-9)


def test_huge_loads_are_infinite_and_do_not_overflow():
    table = uplink(one_way([1e-10]), max_load=5000)
    assert np.isinf(table[0, -1])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"max_load": -1}, "max_load"),
        ({"payload_bits": 0.0}, "payload_bits"),
        ({"window_s": 0.0}, "airtime_s"),
        ({"gain": np.zeros(1)}, "gain"),
        ({"tx_power_limit_w": np.array([-1.0])}, "tx_power_limit_w"),
    ],
)
def test_uplink_table_refuses(change, match):
    arguments = {
        "max_load": 2,
        "payload_bits": BITS,
        "window_s": WINDOW,
        "bandwidth_hz": np.array([2e6]),
        "gain": np.array([1e-10]),
        "noise_psd": np.array([NOISE]),
        "tx_power_limit_w": np.array([1.0]),
    }
    with pytest.raises(ValueError, match=match):
        uplink_energy_table(**{**arguments, **change})


def round_trip(up: OneWay, down: OneWay, *, max_load: int = 6, **change):
    arguments = {
        "uplink_bits": BITS,
        "downlink_bits": BITS,
        "window_s": WINDOW,
        "fixed_s": 0.0,
        "compute_s": np.zeros(len(up.gain)),
        "uplink": up,
        "downlink": down,
        "downlink_price": 1.0,
    }
    return RoundTrip(**{**arguments, **change}).table(max_load)


def test_equal_directions_share_the_deadline_equally():
    way = one_way([1e-10])
    result = round_trip(way, way)
    np.testing.assert_allclose(result.uplink_s[0, 1:], WINDOW / 2, rtol=1e-9)
    np.testing.assert_allclose(
        result.energy_j, 2 * uplink(way, max_load=6, window_s=WINDOW / 2), rtol=1e-12
    )


def test_without_downlink_and_compute_it_is_the_uplink_table():
    way = one_way([1e-10, 3e-11], limit_w=0.01)
    result = round_trip(way, way, downlink_bits=0.0, max_load=30)
    np.testing.assert_allclose(result.energy_j, uplink(way, max_load=30), rtol=1e-12)


def test_a_free_downlink_runs_at_its_power_limit():
    up, down = one_way([1e-10]), one_way([1e-10], limit_w=1.0)
    result = round_trip(up, down, downlink_price=0.0)
    power = (
        transmit_energy(
            payload_bits=BITS,
            airtime_s=result.downlink_s[0, 1],
            bandwidth_hz=2e6,
            gain=1e-10,
            noise_psd=NOISE,
        )
        / result.downlink_s[0, 1]
    )
    assert power == pytest.approx(1.0, rel=1e-9)


def test_compute_time_is_taken_from_both():
    way = one_way([1e-10])
    result = round_trip(way, way, fixed_s=0.01, compute_s=np.array([0.002]))
    used = result.uplink_s[0] + result.downlink_s[0]
    np.testing.assert_allclose(used[1:], WINDOW - 0.01 - 0.002 * np.arange(1, 7), rtol=1e-12)


def test_both_power_limits_cap_the_load():
    limit = 0.003
    way = one_way([1e-10], limit_w=limit)
    rate = float(shannon_rate(tx_power_w=limit, bandwidth_hz=2e6, gain=1e-10, noise_psd=NOISE))
    most = int(WINDOW / (2 * BITS / rate))
    table = round_trip(way, way, max_load=most + 3).energy_j
    assert np.isfinite(table[0]).sum() == most + 1
    assert np.isinf(round_trip(way, one_way([1e-10], limit_w=0.0)).energy_j[0, 1])


@pytest.mark.parametrize(
    "change",
    [{"downlink_price": -1.0}, {"window_s": 0.0}, {"compute_s": np.array([-1.0])}],
)
def test_round_trip_table_refuses(change):
    way = one_way([1e-10])
    with pytest.raises(ValueError, match=next(iter(change))):
        round_trip(way, way, **change)
