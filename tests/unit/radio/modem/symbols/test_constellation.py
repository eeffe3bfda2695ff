"""Constellations and soft bits."""

import math

import numpy as np
import pytest

from siftmoe.radio.modem.symbols.constellation import ORDERS, modulate, points
from siftmoe.radio.modem.symbols.demapper import demap


def bits_of(order):
    """Bits of all symbols by their value, (2^order, order)."""
    return np.arange(2**order)[:, None] >> np.arange(order - 1, -1, -1) & 1


@pytest.mark.parametrize("order", ORDERS)
def test_mean_power_is_one_and_all_points_differ(order):
    table = points(order)
    assert np.mean(np.abs(table) ** 2) == pytest.approx(1.0, abs=1e-6)
    assert len(np.unique(np.round(table, 4))) == 2**order


@pytest.mark.parametrize("order", ORDERS)
def test_nearest_neighbours_differ_in_one_bit(order):
    table, bits = points(order), bits_of(order)
    distance = np.abs(table[:, None] - table)
    least = distance[distance > 0].min()
    first, second = np.nonzero(np.isclose(distance, least, rtol=1e-3))
    assert np.all(np.sum(bits[first] != bits[second], axis=1) == 1)


def test_16qam_is_that_of_the_standard():
    """3GPP TS 38.211, 5.1.4."""
    sign = 1 - 2 * bits_of(4)
    real = sign[:, 0] * (2 - sign[:, 2])
    imaginary = sign[:, 1] * (2 - sign[:, 3])
    assert np.allclose(points(4), (real + 1j * imaginary) / math.sqrt(10), atol=1e-6)


def test_256qam_is_that_of_the_standard():
    """3GPP TS 38.211, 5.1.6."""
    s = 1 - 2 * bits_of(8)
    real = s[:, 0] * (8 - s[:, 2] * (4 - s[:, 4] * (2 - s[:, 6])))
    imaginary = s[:, 1] * (8 - s[:, 3] * (4 - s[:, 5] * (2 - s[:, 7])))
    assert np.allclose(points(8), (real + 1j * imaginary) / math.sqrt(170), atol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_clean_symbols_give_their_bits_back(order):
    bits = np.random.default_rng(0).integers(0, 2, 400 * order).astype(np.uint8)
    symbols = modulate(bits, order)
    response = np.exp(1j * np.linspace(0, 9, 400)).astype(np.complex64) * 0.02
    soft = demap(symbols * response, response, noise=1e-7, order=order, scale=8.0)
    assert np.array_equal(soft < 0, bits.astype(bool))


@pytest.mark.parametrize("order", ORDERS)
def test_soft_bits_are_max_log(order):
    """Against the definition, over all symbols; rounding leaves half a step."""
    rng = np.random.default_rng(order)
    received = (rng.standard_normal(2000) + 1j * rng.standard_normal(2000)).astype(np.complex64)
    response = np.full(2000, 0.6 - 0.7j, np.complex64)
    noise, scale, bits = 0.05, 2.0, bits_of(order)
    distance = np.abs(received[:, None] - response[0] * points(order)) ** 2 / noise
    expected = [
        np.min(np.where(bits[:, j], distance, np.inf), axis=1)
        - np.min(np.where(bits[:, j], np.inf, distance), axis=1)
        for j in range(order)
    ]
    soft = demap(received, response, noise=noise, order=order, scale=scale).reshape(-1, order)
    limited = np.clip(scale * np.stack(expected, axis=1), -127, 127)
    assert np.abs(soft - limited).max() <= 0.5 + 1e-2


def test_a_carrier_without_response_carries_nothing():
    soft = demap(np.ones(3, np.complex64), np.zeros(3, np.complex64), noise=1.0, order=6, scale=8.0)
    assert not soft.any()


@pytest.mark.parametrize("noise", [0.0, -1.0, math.nan])
def test_noise_must_be_positive(noise):
    with pytest.raises(ValueError, match="noise variance must be positive"):
        demap(np.ones(1, np.complex64), np.ones(1, np.complex64), noise=noise, order=2, scale=1.0)


def test_impossible_orders_and_lengths_are_refused():
    with pytest.raises(ValueError, match="bits per symbol"):
        modulate(np.zeros(6, np.uint8), 3)
    with pytest.raises(ValueError, match="no symbols of 4 bits"):
        modulate(np.zeros(6, np.uint8), 4)
