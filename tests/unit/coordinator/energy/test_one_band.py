"""Windows of one band against SciPy, and against links that have the band to themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from siftmoe.coordinator.energy.circuit import least_energy
from siftmoe.coordinator.energy.one_band import OneBand
from siftmoe.radio.channel.link import transmit_energy

BAND_HZ, N0 = 2e6, 4e-21


def band(gain, *, window_s=0.1, limit_w=math.inf, circuit_w=0.0) -> OneBand:
    gain = np.asarray(gain, dtype=np.float64)
    return OneBand(
        bandwidth_hz=BAND_HZ,
        window_s=window_s,
        noise_w=N0 * BAND_HZ / gain,
        tx_power_limit_w=limit_w,
        circuit_w=np.broadcast_to(np.asarray(circuit_w, dtype=np.float64), gain.shape).copy(),
    )


def by_scipy(one: OneBand, bits: np.ndarray) -> float:
    """Least energy over airtimes, by a general solver."""
    sent = np.flatnonzero(bits)
    least = bits[sent] / (one.bandwidth_hz * np.minimum(one.limit[sent], 50.0))
    noise, circuit = one.noise_w[sent], one.circuit_w[sent]

    def energy(share: np.ndarray) -> float:
        airtime = share * one.window_s
        rise = np.expm1(math.log(2.0) * bits[sent] / (one.bandwidth_hz * airtime))
        return float((airtime * (noise * rise + circuit)).sum()) / scale

    start = np.full(len(sent), 1.0 / len(sent))
    scale = 1.0
    scale = energy(start)
    found = minimize(
        energy,
        start,
        bounds=[(max(low / one.window_s, 1e-6), 1.0) for low in least],
        constraints=[{"type": "ineq", "fun": lambda share: 1.0 - share.sum()}],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return float(found.fun) * scale


@given(st.integers(0, 10_000))
def test_the_window_is_divided_at_least_energy(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 5))
    one = band(
        10.0 ** rng.uniform(-10, -8, count),
        circuit_w=rng.choice([0.0, 1e-5]) * rng.random(count),
    )
    bits = rng.integers(1, 4, count) * 3e4
    divided = one.divide(bits)
    assert divided.airtime_s.sum() <= one.window_s * (1.0 + 1e-12)
    # a general solver comes close from above
    assert divided.energy_j <= by_scipy(one, bits) * (1.0 + 1e-9)
    assert divided.energy_j >= by_scipy(one, bits) * (1.0 - 1e-4)


@given(st.integers(0, 10_000), st.floats(-3.0, 3.0))
def test_any_price_bounds_the_energy_and_the_window_s_own_attains_it(seed, log_price):
    rng = np.random.default_rng(seed)
    one = band(10.0 ** rng.uniform(-10, -8, 4), limit_w=float(rng.choice([math.inf, 1e-3])))
    bits = rng.integers(0, 3, 4) * 3e4
    divided = one.divide(bits)
    for price, tolerance in ((divided.price_w, 1e-10), (divided.price_w * 10.0**log_price, 0.0)):
        bound = float((bits * one.bit_costs(price)[0]).sum()) - price * one.window_s
        assert bound <= divided.energy_j * (1.0 + 1e-10)
        if tolerance:
            assert bound >= divided.energy_j * (1.0 - tolerance)


def test_one_payload_has_the_band_to_itself():
    one, bits = band([1e-9]), np.array([65536.0])
    alone = transmit_energy(
        payload_bits=65536.0, airtime_s=0.1, bandwidth_hz=BAND_HZ, gain=1e-9, noise_psd=N0
    )
    assert one.divide(bits).energy_j == pytest.approx(float(alone), rel=1e-13)
    circuits = band([1e-9], circuit_w=1e-3)
    spent = least_energy(
        payload_bits=65536.0,
        window_s=0.1,
        bandwidth_hz=BAND_HZ,
        gain=1e-9,
        noise_psd=N0,
        tx_power_limit_w=math.inf,
        circuit_power_w=1e-3,
    )
    divided = circuits.divide(bits)
    assert divided.energy_j == pytest.approx(float(spent.energy_j), rel=1e-12)
    assert divided.price_w == 0.0
    assert divided.airtime_s[0] < 0.1


def test_what_does_not_fit_is_infinite():
    tight = band([1e-9, 1e-8], limit_w=1e-6)
    most = tight.limit * BAND_HZ * tight.window_s
    assert tight.divide(most * [1.0, 0.0]).energy_j < math.inf
    assert tight.divide(most * [1.0, 0.0]).radiated_j.sum() == pytest.approx(1e-6 * 0.1)
    assert tight.divide(most * [1.0, 1e-6]).energy_j == math.inf
    assert tight.carries(float(most[0])).tolist() == [True, True]
    assert tight.carries(float(most[1])).tolist() == [False, True]
    nowhere = OneBand(
        bandwidth_hz=BAND_HZ,
        window_s=0.1,
        noise_w=np.array([1e-6, np.inf]),
        tx_power_limit_w=1.0,
        circuit_w=np.zeros(2),
    )
    assert nowhere.divide(np.array([1.0, 1.0])).energy_j == math.inf
    assert nowhere.divide(np.array([1.0, 0.0])).energy_j < math.inf
    assert nowhere.divide(np.zeros(2)).energy_j == 0.0


@pytest.mark.parametrize(
    "change",
    [
        {"bandwidth_hz": 0.0},
        {"window_s": math.nan},
        {"price": 0.0},
        {"tx_power_limit_w": math.nan},
        {"noise_w": np.array([math.nan])},
        {"noise_w": np.array([0.0])},
        {"circuit_w": np.array([-1.0])},
        {"circuit_w": np.zeros(2)},
    ],
)
def test_bad_figures_are_refused_by_name(change):
    values = {
        "bandwidth_hz": BAND_HZ,
        "window_s": 0.1,
        "noise_w": np.array([1e-6]),
        "tx_power_limit_w": 1.0,
        "circuit_w": np.zeros(1),
        "price": 1.0,
    }
    with pytest.raises(ValueError, match=next(iter(change))):
        OneBand(**(values | change))
