"""Imperfect and odd Plutos through the driver, emulated: sounded right, refused, or uncertain.

One user transmits to radios that each have one of the keys of ``[[device]]``.
"""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import replace

import pytest

from siftmoe.radio.device import RadioSettings
from siftmoe.radio.emulator.config import AirConfig, DeviceEntry, InterfererEntry, LinkEntry
from siftmoe.radio.emulator.launch import EmulatedPlutos
from siftmoe.radio.errors import Overload, RadioError, SettingRejected, SyncFailed
from siftmoe.radio.opening import open_radio
from siftmoe.radio.power.store import CalibrationStore
from siftmoe.radio.sounding import sounder

CARRIER_HZ = 2.45e9
SETTINGS = RadioSettings(
    carrier_hz=CARRIER_HZ, sample_rate_hz=2e6, tx_attenuation_db=10.0, rx_gain_db=50.0
)
#: Over -70 dB of path the burst arrives at -88 dBm: at -38 dB of full scale at this gain.
DEVICES = {
    "user": DeviceEntry(name="user", ppm=3.0, extended_tuning=True),
    "plain": DeviceEntry(name="plain", ppm=-4.0, extended_tuning=True),
    "dc": DeviceEntry(name="dc", dc_dbfs=-30.0),
    "image": DeviceEntry(name="image", image_db=-35.0),
    "clock": DeviceEntry(name="clock", clock_ppm=35.0),
    "noisy": DeviceEntry(name="noisy", phase_noise_deg=1.5),
    "saturated": DeviceEntry(name="saturated", saturation_dbfs=-32.0),
    "spur": DeviceEntry(
        name="spur",
        interferer=(InterfererEntry(carrier_hz=CARRIER_HZ + 250e3, power_dbm=-100.0),),
    ),
    "hot": DeviceEntry(name="hot", temperature_reading="text"),
    "cold": DeviceEntry(name="cold", temperature_reading="error"),
    "bare": DeviceEntry(name="bare", temperature_reading="absent", lo_powerdown=False),
    "rate": DeviceEntry(name="rate", rate_error_hz=-2),
    "wrong-rate": DeviceEntry(name="wrong-rate", rate_error_hz=500),
}


@pytest.fixture(scope="module")
def plutos():
    others = [name for name in DEVICES if name != "user"]
    links = [LinkEntry(between=("user", name), gain_db=-70.0) for name in others]
    config = AirConfig(device=tuple(DEVICES.values()), link=tuple(links))
    with EmulatedPlutos(config) as running:
        yield running


@pytest.fixture(scope="module")
def opened(plutos, tmp_path_factory):
    store = CalibrationStore(path=tmp_path_factory.mktemp("none") / "calibration.toml")
    radios = {}

    def radio(name: str):
        if name not in radios:
            uri = plutos.uris[plutos.names.index(name)]
            radios[name] = open_radio(uri, calibrations=store, timeout_s=4.0)
        return radios[name]

    yield radio
    for each in radios.values():
        each.close()


def _error_db(plutos, got, name: str) -> float:
    return 10 * math.log10(got.channel.gain / plutos.gain("user", name))


@pytest.mark.parametrize(
    "name", ["plain", "dc", "image", "clock", "noisy", "hot", "cold", "bare", "rate"]
)
def test_what_a_real_radio_has_changes_no_gain(plutos, opened, name):
    got = sounder.sound(opened("user"), opened(name), settings=SETTINGS, now_s=0.0)
    assert abs(_error_db(plutos, got, name)) < 0.2
    true_hz = plutos.cfo_hz("user", name, CARRIER_HZ)
    assert abs(got.cfo_hz - true_hz) < max(8 * got.cfo_std_hz, 10.0)


def test_a_radio_that_saturates_below_full_scale_is_an_overload_until_its_gain_is_lower(
    plutos, opened
):
    user, receiver = opened("user"), opened("saturated")
    loud = replace(SETTINGS, rx_gain_db=66.0)
    with pytest.raises(Overload, match=r"distorted.*lower rx_gain_db"):
        sounder.sound(user, receiver, settings=SETTINGS, receiver_settings=loud, now_s=0.0)
    soft = replace(SETTINGS, rx_gain_db=40.0)
    got = sounder.sound(user, receiver, settings=SETTINGS, receiver_settings=soft, now_s=0.0)
    assert abs(_error_db(plutos, got, "saturated")) < 0.2


def test_a_spur_in_the_band_stays_within_the_stated_uncertainty(plutos, opened):
    got = sounder.sound(opened("user"), opened("spur"), settings=SETTINGS, now_s=0.0)
    std_db = 10 / math.log(10) * got.channel.gain_std / got.channel.gain
    assert abs(_error_db(plutos, got, "spur")) < std_db


def test_another_transmitter_on_the_carrier_is_not_taken_for_the_own_one(opened):
    # "dc" transmits to the user, while "plain" is expected and silent
    pilot = sounder.transmit_pilot(opened("plain"), SETTINGS)
    opened("plain").silence()
    sounder.transmit_pilot(opened("dc"), SETTINGS)
    try:
        with pytest.raises(SyncFailed):
            sounder.hear(opened("user"), pilot, settings=SETTINGS, now_s=0.0)
    finally:
        opened("dc").silence()


def test_a_carrier_offset_that_has_drifted_is_found_again(plutos, opened):
    true_hz = plutos.cfo_hz("user", "plain", CARRIER_HZ)
    got = sounder.sound(
        opened("user"), opened("plain"), settings=SETTINGS, now_s=0.0, cfo_hz=true_hz + 12e3
    )
    assert got.cfo_hz == pytest.approx(true_hz, abs=20.0)
    assert abs(_error_db(plutos, got, "plain")) < 0.2


def test_the_filters_step_is_in_the_typical_power(plutos, opened):
    user = opened("user")
    pilot = sounder.transmit_pilot(user, SETTINGS)
    radiated_dbm = plutos.state()["user"]["radiated_dbm"]
    user.silence()
    duty_db = 10 * math.log10(1440 / 2048)
    assert 10 * math.log10(pilot.tx_power_w) + 30 + duty_db == pytest.approx(radiated_dbm, abs=0.05)


@pytest.mark.parametrize("name", ["hot", "cold", "bare"])
def test_a_temperature_that_cannot_be_read_is_unknown(opened, name):
    radio = opened(name)
    assert radio.info.temperature_c is None
    radio.tune(SETTINGS)
    assert radio.temperature_c is None


def test_a_radio_without_powerdown_is_silent_by_its_attenuation(plutos, opened):
    radio = opened("bare")
    sounder.transmit_pilot(radio, SETTINGS)
    assert "bare" in plutos.transmitting()
    radio.silence()
    assert "bare" not in plutos.transmitting()


def test_a_sample_rate_that_is_far_off_is_refused(opened):
    with pytest.raises(SettingRejected, match="reads back 2000500"):
        opened("wrong-rate").tune(SETTINGS)


def test_the_range_of_gains_is_that_of_the_carrier(plutos, opened):
    user, plain = opened("user"), opened("plain")
    high = replace(SETTINGS, carrier_hz=5.8e9, rx_gain_db=70.0)
    with pytest.raises(SettingRejected, match=r"rx gain 70.0 dB was not taken.*takes -10..62 dB"):
        plain.tune(high)
    assert plain.tune(high, clamp_gain=True).rx_gain_db == 62.0
    pilot = sounder.transmit_pilot(user, high)
    try:
        got = sounder.hear(plain, pilot, settings=high, now_s=0.0, clamp_gain=True)
    finally:
        user.silence()
    assert got.rx_gain_db == 62.0
    assert abs(_error_db(plutos, got, "plain")) < 0.2


def test_one_unit_under_two_addresses_is_named(plutos, opened):
    with closing(open_radio(plutos.uris[0], timeout_s=4.0)) as second:
        user = opened("user")
        with pytest.raises(RadioError, match=r"are one unit, serial number '10447354119600000"):
            sounder.sound(user, second, settings=SETTINGS, now_s=0.0)
