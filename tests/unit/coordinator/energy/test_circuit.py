from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import lambertw

from siftmoe.coordinator.energy.circuit import (
    CircuitPower,
    best_efficiency,
    least_energy,
)
from siftmoe.coordinator.energy.tables import uplink_energy_table
from siftmoe.coordinator.links.states import Direction
from siftmoe.radio.channel.link import shannon_rate, transmit_energy

NOISE = 4e-21
BAND = 2e6
GAIN = 1e-10
LINK = {"bandwidth_hz": BAND, "gain": GAIN, "noise_psd": NOISE}
NOISE_W = NOISE * BAND / GAIN


@pytest.mark.parametrize("share", [1e-16, 1e-9, 1e-4, 0.3, 1.0, 40.0, 1e6, 1e12])
def test_the_efficiency_is_lamberts(share):
    x = float(best_efficiency(circuit_power_w=share * NOISE_W, **LINK))
    if share < 1e-3:  # series of the branch at -1/e, where lambertw loses its digits
        root = np.sqrt(2.0 * share)
        expected = (root - root**2 / 3.0 + 11.0 * root**3 / 72.0) / np.log(2.0)
        # next terms of the series: y = r - r^2/3 + 11 r^3/72 is the inverse of y^2/2 + y^3/3 + ...
        assert x == pytest.approx(expected, rel=max(1e-12, 10 * share))
    else:
        expected = (1.0 + lambertw((share - 1.0) / np.e).real) / np.log(2.0)
        assert x == pytest.approx(min(expected, 60.0), rel=1e-12)


def test_no_circuit_is_todays_energy_to_the_last_bit():
    bits = np.linspace(0.0, 3e5, 50)
    spent = least_energy(
        payload_bits=bits, window_s=0.05, tx_power_limit_w=1.0, circuit_power_w=0.0, **LINK
    )
    np.testing.assert_array_equal(
        spent.radiated_j, transmit_energy(payload_bits=bits, airtime_s=0.05, **LINK)
    )
    assert not spent.circuit_j.any()
    assert np.all(spent.airtime_s[1:] == 0.05)


@pytest.mark.parametrize("circuit_w", [1e-9, 3e-7, 1e-3, 0.4])
@pytest.mark.parametrize("bits", [64.0, 1e4, 4e5])
def test_the_airtime_is_a_minimum_found_by_search(circuit_w, bits):
    window = 0.05
    spent = least_energy(
        payload_bits=bits,
        window_s=window,
        tx_power_limit_w=np.inf,
        circuit_power_w=circuit_w,
        **LINK,
    )

    def energy(airtime_s: float) -> float:
        radiated = transmit_energy(payload_bits=bits, airtime_s=airtime_s, **LINK)
        return float(radiated + circuit_w * airtime_s)

    shortest = bits / BAND / 50.0
    found = minimize_scalar(
        lambda log: energy(np.exp(log)), bounds=(np.log(shortest), np.log(window)), method="bounded"
    )
    assert float(spent.energy_j) <= found.fun * (1.0 + 1e-9)
    assert float(spent.energy_j) == pytest.approx(energy(float(spent.airtime_s)), rel=1e-12)
    assert 0.0 < float(spent.airtime_s) <= window


def test_a_power_limit_bounds_how_early_a_burst_ends():
    limit = 1e-4
    spent = least_energy(
        payload_bits=1e4, window_s=0.05, tx_power_limit_w=limit, circuit_power_w=0.4, **LINK
    )
    assert float(spent.radiated_j / spent.airtime_s) == pytest.approx(limit, rel=1e-9)
    rate = shannon_rate(tx_power_w=limit, **LINK)
    assert float(spent.airtime_s) == pytest.approx(1e4 / float(rate), rel=1e-12)


def table(circuit_w: float, *, limit_w: float = np.inf) -> np.ndarray:
    one = np.ones(1)
    return uplink_energy_table(
        max_load=64,
        payload_bits=2048.0,
        window_s=0.05,
        bandwidth_hz=BAND * one,
        gain=GAIN * one,
        noise_psd=NOISE * one,
        tx_power_limit_w=limit_w * one,
        circuit_power_w=circuit_w,
    )[0]


@pytest.mark.parametrize("circuit_w", [1e-9, 1e-8, 1e-6, 0.4])
def test_the_table_stays_convex_and_above_the_radiated_energy(circuit_w):
    with_circuit, radiated = table(circuit_w), table(0.0)
    steps = np.diff(with_circuit)
    assert with_circuit[0] == 0.0
    assert np.all(np.diff(steps) >= -1e-12 * steps[1:])
    assert np.all(with_circuit[1:] > radiated[1:])


def test_circuits_do_not_change_what_a_power_limit_carries():
    np.testing.assert_array_equal(
        np.isfinite(table(0.4, limit_w=1e-4)), np.isfinite(table(0.0, limit_w=1e-4))
    )
    assert 1 < np.isfinite(table(0.4, limit_w=1e-4)).sum() < 65


def test_ends_of_a_burst():
    circuit = CircuitPower(user_tx_w=1.0, user_rx_w=2.0, helper_tx_w=4.0, helper_rx_w=8.0)
    assert circuit.of(Direction.UP) == 9.0
    assert circuit.of(Direction.UP, receivers=3) == 25.0
    assert circuit.of(Direction.DOWN) == 6.0


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_impossible_powers_are_refused(bad):
    with pytest.raises(ValueError, match="user_tx_w"):
        CircuitPower(user_tx_w=bad)
    with pytest.raises(ValueError, match="circuit_power_w"):
        best_efficiency(circuit_power_w=bad, **LINK)
