"""Settings and power reference of a radio."""

from __future__ import annotations

import pytest

from siftmoe.radio.channel.link import Source
from siftmoe.radio.device import PowerReference, RadioSettings

GOOD = {
    "carrier_hz": 2.4e9,
    "sample_rate_hz": 2e6,
    "tx_attenuation_db": 10.0,
    "rx_gain_db": 40.0,
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("carrier_hz", 0.0),
        ("sample_rate_hz", float("nan")),
        ("tx_attenuation_db", -0.25),
        ("tx_attenuation_db", 90.0),
        ("rx_gain_db", float("inf")),
    ],
)
def test_impossible_settings_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        RadioSettings(**{**GOOD, name: value})


def test_reference_turns_samples_into_watt():
    settings = RadioSettings(**GOOD)
    reference = PowerReference(tx_full_scale_dbm=7.0, rx_full_scale_dbm=-2.0)
    # 7 dBm - 3.01 dB - 10 dB
    assert reference.tx_power_w(0.5, settings) == pytest.approx(0.5 * 10**-3.3)
    # -2 dBm - 20 dB - 40 dB
    assert reference.rx_power_w(0.01, settings) == pytest.approx(10**-9.2)


def test_without_a_calibration_a_power_is_derived():
    assert PowerReference().source is Source.DERIVED
    assert PowerReference().std_db == 3.0
