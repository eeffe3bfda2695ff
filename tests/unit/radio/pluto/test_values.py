"""Scaling and ranges of a Pluto."""

from __future__ import annotations

import numpy as np
import pytest

from siftmoe.radio.device import RadioSettings
from siftmoe.radio.errors import SettingRejected
from siftmoe.radio.pluto.values import check_settings, from_converter, parse_range, to_converter

GOOD = {"carrier_hz": 2.4e9, "sample_rate_hz": 2e6, "tx_attenuation_db": 10.25, "rx_gain_db": 40.0}


def test_full_scale_of_the_transmitter_is_16_bits_and_never_wraps():
    samples = np.array([1.0 - 1.0j, 0.5 + 0.25j, -1.0 + 1.0j, 0.0])
    whole = to_converter(samples)
    assert whole.tolist() == [32767 - 32768j, 16384 + 8192j, -32768 + 32767j, 0]
    # what pyadi-iio does with them
    assert whole.real.astype(np.int16).tolist() == [32767, 16384, -32768, 0]


def test_full_scale_of_the_receiver_is_12_bits():
    assert from_converter(np.array([2047 - 2048j])).tolist() == [2047 / 2048 - 1j]


def test_an_odd_number_of_samples_is_doubled_for_the_bus():
    samples = np.array([0.25, 0.5j, -0.5])
    assert np.array_equal(to_converter(samples), np.tile(samples, 2) * 2**15)
    assert len(to_converter(samples[:2])) == 2


@pytest.mark.parametrize(
    "samples", [np.zeros(0), np.array([1.5]), np.array([np.nan]), np.zeros((2, 2))]
)
def test_samples_that_cannot_be_sent_are_refused(samples):
    with pytest.raises(ValueError, match="full scale"):
        to_converter(samples)


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("[325000000 1 3800000000]", (325e6, 3.8e9)),
        ("[-89.750000 0.250000 0.000000]", (-89.75, 0.0)),
        ("[5 1 3]", None),
        ("slow_attack manual", None),
        ("", None),
    ],
)
def test_ranges_are_read_or_left_open(text, limits):
    assert parse_range(text) == limits


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tx_attenuation_db", 10.1, "0.25 dB"),
        ("sample_rate_hz", 520e3, "521000..61440000 Hz"),
        ("sample_rate_hz", 62e6, "521000..61440000 Hz"),
    ],
)
def test_what_no_pluto_takes_is_refused_before_anything_is_set(name, value, message):
    check_settings(RadioSettings(**GOOD), name="ip:a")
    with pytest.raises(SettingRejected, match=rf"'ip:a'.*{message}"):
        check_settings(RadioSettings(**{**GOOD, name: value}), name="ip:a")
