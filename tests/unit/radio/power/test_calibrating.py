"""Calibration on simulated radios whose true powers are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from siftmoe.radio.channel.link import Source
from siftmoe.radio.channel.multipath import AirPath
from siftmoe.radio.device import PowerReference, RadioSettings
from siftmoe.radio.errors import CalibrationError, Overload, SyncFailed
from siftmoe.radio.power.calibrating import (
    GAIN_STEP_STD_DB,
    cabled_settings,
    hear_cabled,
    pair_entry,
    tone_power_dbm,
    transmit_entry,
)
from siftmoe.radio.power.conversion import mean_square, typical_tx_dbm
from siftmoe.radio.power.store import CalibrationStore
from siftmoe.radio.power.tone import hear_tone, tone, transmitting_tone
from siftmoe.radio.simulated.air import Air
from siftmoe.radio.simulated.front_end import DeviceModel
from siftmoe.radio.simulated.radio import SimulatedRadio
from siftmoe.radio.units import db_to_linear, linear_to_db, watt_to_dbm

LO, RATE = 2.4e9, 2e6
SETTINGS = RadioSettings(carrier_hz=LO, sample_rate_hz=RATE, tx_attenuation_db=10.0, rx_gain_db=0.0)
TRUE_TX_DBM, TRUE_RX_DBM = 5.1, -2.2


def cabled(
    attenuator_db: float = 40.0, *, seed: int = 3
) -> tuple[Air, SimulatedRadio, SimulatedRadio]:
    """Two radios whose oscillators are 20 ppm apart, with a cable from the one to the other."""

    def device(ppm: float) -> DeviceModel:
        truth = PowerReference(tx_full_scale_dbm=TRUE_TX_DBM, rx_full_scale_dbm=TRUE_RX_DBM)
        return DeviceModel(ppm=ppm, reference=truth)

    air = Air({"a": device(12.0), "b": device(-8.0)}, sample_rate_hz=RATE, seed=seed)
    air.connect("a", "b", AirPath(gain=db_to_linear(-attenuator_db)))
    return air, SimulatedRadio(air, "a"), SimulatedRadio(air, "b")


def test_the_tones_level_is_what_was_sent_wherever_the_oscillators_are() -> None:
    _, sender, receiver = cabled()
    listening = cabled_settings(SETTINGS, 40.0)
    with transmitting_tone(sender, SETTINGS):
        heard = hear_tone(receiver, listening)
    arriving = TRUE_TX_DBM - 6.0 - 10.0 - 40.0
    assert heard.dbfs == pytest.approx(arriving + listening.rx_gain_db - TRUE_RX_DBM, abs=0.01)
    assert heard.offset_hz == pytest.approx(RATE / 8 + 20e-6 * LO, abs=2 * RATE / 16_384)
    assert heard.std_db < 0.01
    assert heard.snr_db > 50.0


class Leaky(SimulatedRadio):
    """A receiver with leakage of its own oscillator, as real ones have."""

    def receive(self, count: int) -> np.ndarray:
        return super().receive(count) + 0.3


def test_a_receivers_own_oscillator_is_not_taken_for_the_tone() -> None:
    air, sender, _ = cabled()
    settings = replace(SETTINGS, carrier_hz=5.8e9)
    listening = cabled_settings(settings, 40.0)
    with transmitting_tone(sender, settings):
        heard = hear_tone(Leaky(air, "b"), listening)
    arriving = TRUE_TX_DBM - 6.0 - 10.0 - 40.0
    assert heard.dbfs == pytest.approx(arriving + listening.rx_gain_db - TRUE_RX_DBM, abs=0.01)
    assert heard.offset_hz == pytest.approx(RATE / 8 + 20e-6 * 5.8e9, abs=2 * RATE / 16_384)


def test_a_weak_tones_level_is_unbiased_and_as_uncertain_as_it_says() -> None:
    errors = []
    for seed in range(40):
        settings = replace(SETTINGS, tx_attenuation_db=30.0, rx_gain_db=40.0)
        air, sender, receiver = cabled(seed=seed)
        with transmitting_tone(sender, settings):
            heard = hear_tone(receiver, settings)
            true = watt_to_dbm(air.radiated_w("a")) - 40.0 + 40.0 - TRUE_RX_DBM
        errors.append((heard.dbfs - true) / heard.std_db)
    # Student's t with 7 degrees of freedom has a deviation of 1.18.
    assert abs(np.mean(errors)) < 3 * 1.18 / math.sqrt(len(errors))
    assert np.std(errors) < 1.6


def test_a_meter_reading_gives_the_true_level() -> None:
    air, sender, _ = cabled()
    with transmitting_tone(sender, SETTINGS):
        reading = watt_to_dbm(air.radiated_w("a")) - 0.7  # a cable
    entry = transmit_entry(
        reading, serial="a", settings=SETTINGS, std_db=0.3, cable_db=0.7, temperature_c=36.0
    )
    assert entry.full_scale_dbm == pytest.approx(TRUE_TX_DBM, abs=1e-3)
    assert entry.std_db == pytest.approx(math.hypot(0.3, 0.1))
    assert (entry.path, entry.temperature_c, entry.method) == ("transmit", 36.0, "power meter")


def test_a_pair_gives_the_difference_and_with_a_level_the_receiver(tmp_path) -> None:
    air, sender, receiver = cabled()
    listening = cabled_settings(SETTINGS, 40.0)
    heard = hear_cabled(sender, receiver, settings=SETTINGS, listening=listening)
    assert air.transmitting() == []
    pair = pair_entry(
        heard,
        serials=("a", "b"),
        settings=SETTINGS,
        listening=listening,
        attenuator_db=40.0,
        attenuator_std_db=0.2,
    )
    assert pair.difference_db == pytest.approx(TRUE_TX_DBM - TRUE_RX_DBM, abs=0.02)
    assert pair.std_db == pytest.approx(math.hypot(0.2, 0.1, GAIN_STEP_STD_DB), abs=0.01)
    level = transmit_entry(
        tone_power_dbm(SETTINGS) + TRUE_TX_DBM - typical_tx_dbm(SETTINGS.sample_rate_hz),
        serial="a",
        settings=SETTINGS,
        std_db=0.3,
    )
    store = CalibrationStore(path=tmp_path / "c.toml").with_entry(pair).with_entry(level)
    reference = store.unit("b").reference(sample_rate_hz=2e6, carrier_hz=LO)
    assert reference.rx_full_scale_dbm == pytest.approx(TRUE_RX_DBM, abs=0.02)
    assert reference.receiver_source is Source.MEASURED


@pytest.mark.parametrize("reading", [30.0, -60.0, math.nan, math.inf])
def test_a_reading_that_cannot_be_is_refused(reading: float) -> None:
    with pytest.raises(CalibrationError, match=r"is\s+expected at tx attenuation 10.0 dB"):
        transmit_entry(reading, serial="a", settings=SETTINGS, std_db=0.3)


@pytest.mark.parametrize("attenuator", [0.0, 9.9, -40.0, 121.0, math.nan])
def test_an_attenuator_that_cannot_be_is_refused_before_anything_is_sent(
    attenuator: float,
) -> None:
    with pytest.raises(CalibrationError, match="a loss of 10 to 120 dB"):
        cabled_settings(SETTINGS, attenuator)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"serial": ""}, "no serial number"),
        ({"std_db": 0.0}, "uncertainty"),
        ({"std_db": math.nan}, "uncertainty"),
        ({"cable_db": -1.0}, "loss to the meter must be a loss of 0 to 60 dB"),
    ],
)
def test_what_is_no_measurement_is_refused(changes: dict, expected: str) -> None:
    options = {"serial": "a", "settings": SETTINGS, "std_db": 0.3, "cable_db": 0.0} | changes
    with pytest.raises(CalibrationError, match=expected):
        transmit_entry(tone_power_dbm(SETTINGS), **options)


def test_a_wrong_attenuator_shows() -> None:
    _, sender, receiver = cabled(attenuator_db=40.0)
    listening = replace(SETTINGS, rx_gain_db=35.0)
    heard = hear_cabled(sender, receiver, settings=SETTINGS, listening=listening)
    with pytest.raises(CalibrationError, match=r"dB stronger than\s+70.0 dB of attenuation"):
        pair_entry(
            heard,
            serials=("a", "b"),
            settings=SETTINGS,
            listening=listening,
            attenuator_db=70.0,
            attenuator_std_db=0.3,
        )


def test_without_a_cable_there_is_no_level() -> None:
    air = Air({"a": DeviceModel(), "b": DeviceModel()}, sample_rate_hz=RATE, seed=1)
    sender, receiver = SimulatedRadio(air, "a"), SimulatedRadio(air, "b")
    with pytest.raises(SyncFailed, match=r"30\.0 dB are needed; check the cable"):
        hear_cabled(sender, receiver, settings=SETTINGS, listening=SETTINGS)
    assert air.transmitting() == []


def test_a_level_near_full_scale_is_refused() -> None:
    _, sender, receiver = cabled()
    listening = replace(SETTINGS, rx_gain_db=50.0)
    with pytest.raises(Overload, match=r"at most -3\.0 is linear"):
        hear_cabled(sender, receiver, settings=SETTINGS, listening=listening)


def test_a_stranger_on_the_air_is_noticed() -> None:
    air = Air({name: DeviceModel() for name in "abc"}, sample_rate_hz=RATE, seed=1)
    air.connect("a", "b", AirPath(gain=1e-4))
    air.connect("c", "b", AirPath(gain=1e-5))
    sender, receiver, stranger = (SimulatedRadio(air, name) for name in "abc")
    with (
        transmitting_tone(stranger, SETTINGS),
        pytest.raises(CalibrationError, match="something else transmits"),
    ):
        hear_cabled(sender, receiver, settings=SETTINGS, listening=cabled_settings(SETTINGS, 40.0))


def test_the_tone_is_six_db_under_full_scale() -> None:
    assert linear_to_db(mean_square(tone())) == pytest.approx(-6.0)
