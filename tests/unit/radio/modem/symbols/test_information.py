"""Mutual information against known values and against soft bits; EVM against the SNR."""

import math

import numpy as np
import pytest

from siftmoe.radio.modem.symbols import information
from siftmoe.radio.modem.symbols.constellation import ORDERS, modulate
from siftmoe.radio.modem.symbols.demapper import demap
from siftmoe.radio.modem.symbols.schemes import SCHEMES, scheme


def decibel(ratio):
    return 10.0 * math.log10(ratio)


@pytest.mark.parametrize(
    ("bits", "order", "snr_db"),
    [
        # Limits of Eb/N0 of binary signalling: 0.187 dB at rate 1/2, -0.495 at 1/3, 1.626 at 3/4
        # (Es/N0 of QPSK = Eb/N0 times two bits times the rate).
        (1.0, 2, 0.187),
        (2.0 / 3.0, 2, -0.495 + decibel(2.0 / 3.0)),
        (1.5, 2, 1.626 + decibel(1.5)),
    ],
)
def test_known_limits_of_qpsk(bits, order, snr_db):
    assert decibel(information.snr_for_information(bits, order)) == pytest.approx(snr_db, abs=0.01)


@pytest.mark.parametrize("order", ORDERS)
def test_information_lies_below_capacity_and_saturates(order):
    snrs = 10.0 ** (np.arange(-10.0, 40.0, 5.0) / 10.0)
    values = np.array([information.bit_information(snr, order) for snr in snrs])
    assert np.all(np.diff(values) > -1e-9)
    assert np.all(values < np.log2(1.0 + snrs))
    assert information.bit_information(1e5, order) == pytest.approx(order, abs=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_soft_bits_carry_what_the_quadrature_says(order):
    """Within 4 standard errors, and 1.5% for max-log of 16QAM and more."""
    rng = np.random.default_rng(order)
    snr = {2: 1.0, 4: 6.0, 6: 25.0, 8: 90.0}[order]
    bits = rng.integers(0, 2, 20000 * order).astype(np.uint8)
    noise = math.sqrt(0.5 / snr) * (rng.standard_normal((20000, 2)) @ [1.0, 1j])
    received = (modulate(bits, order) + noise).astype(np.complex64)
    flat = np.ones(20000, np.complex64)
    soft = demap(received, flat, noise=1.0 / snr, order=order, scale=8.0)
    found = order * information.soft_information(soft, bits, scale=8.0)
    expected = information.bit_information(snr, order)
    error = 4.0 * order * 0.6 / math.sqrt(len(bits))
    assert expected * 0.985 - error < found < expected + error


def test_mean_information_of_equal_carriers_is_that_of_one():
    assert information.mean_information(np.full(50, 4.0), 4) == pytest.approx(
        information.bit_information(4.0, 4), abs=2e-3
    )
    assert information.mean_information([0.0, 0.0], 6) == 0.0


def test_effective_snr_lies_between_the_carriers():
    assert information.effective_snr(np.full(10, 7.0), 6) == pytest.approx(7.0, rel=2e-2)
    mixed = information.effective_snr([1.0, 100.0], 4)
    assert 1.0 < mixed < 50.5  # concave: below the mean
    assert information.effective_snr([0.0, 0.0], 4) == pytest.approx(1e-3)


@pytest.mark.parametrize("order", ORDERS)
def test_error_vector_magnitude_is_the_inverse_root_of_the_snr(order):
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2, 8000 * order).astype(np.uint8)
    sent = modulate(bits, order)
    noise = math.sqrt(0.5 / 20.0) * (rng.standard_normal((8000, 2)) @ [1.0, 1j])
    evm = information.error_vector_magnitude((sent + noise).astype(np.complex64), sent)
    # 8,000 errors: relative standard deviation of their power 1 / sqrt(8000)
    assert evm == pytest.approx(math.sqrt(1.0 / 20.0), rel=4 * 0.5 / math.sqrt(8000) + 0.01)


def test_gap_to_shannon():
    assert information.shannon_gap(3.0, 2.0) == pytest.approx(1.0)
    assert information.shannon_gap(2.0, 1.0) == pytest.approx(2.0)
    for snr, efficiency in ((3.0, 0.0), (math.nan, 1.0), (0.0, 1.0)):
        with pytest.raises(ValueError, match="efficiency must be positive"):
            information.shannon_gap(snr, efficiency)


@pytest.mark.parametrize("snr", [0.0, -1.0, math.nan])
def test_snr_must_be_positive(snr):
    with pytest.raises(ValueError, match="SNR must be positive"):
        information.bit_information(snr, 2)


def test_impossible_amounts_are_refused():
    with pytest.raises(ValueError, match="do not lie between"):
        information.snr_for_information(2.1, 2)
    with pytest.raises(ValueError, match="at least 0"):
        information.mean_information([1.0, math.nan], 2)


def test_schemes_need_more_snr_the_more_they_carry():
    needs = [information.snr_for_information(s.efficiency, s.order) for s in SCHEMES]
    groups = [[n for s, n in zip(SCHEMES, needs, strict=True) if s.order == o] for o in ORDERS]
    assert all(group == sorted(group) for group in groups)
    assert scheme(2).name == "QPSK 0.50"
    assert scheme(10).name == "64QAM 0.66"
    for index in (-1, len(SCHEMES)):
        with pytest.raises(ValueError, match="scheme must lie"):
            scheme(index)
