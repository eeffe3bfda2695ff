"""The driver on two Plutos: emulated ones, or real ones with ``--bench FILE``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from siftmoe.radio.channel.link import Source
from siftmoe.radio.errors import DeviceNotFound, RadioError, SettingRejected
from siftmoe.radio.pluto.look import look
from siftmoe.radio.sounding import pilots, sounder
from siftmoe.radio.units import linear_to_db

pytestmark = pytest.mark.hardware("pluto")


def _db(ratio: float) -> float:
    return linear_to_db(ratio)


def test_it_says_what_it_is(bench, pair):
    info = pair[0].radio.info
    assert info.serial
    assert info.firmware
    assert info.lo_range_hz[0] <= bench.settings.carrier_hz <= info.lo_range_hz[1]
    assert info.rx_gain_range_db[0] <= 0.0 < 60.0 < info.rx_gain_range_db[1]
    assert info.tx_attenuation_range_db == (0.0, 89.75)
    assert -40.0 < info.temperature_c < 125.0
    assert info.serial != pair[1].radio.info.serial


def test_looking_at_a_radio_does_not_disturb_it(bench, pair):
    pilot = sounder.transmit_pilot(pair[0], bench.settings)
    assert look(bench.uris[0]).serial == pair[0].radio.info.serial
    assert bench.hear(pair[1], pilot).detection.detected


def test_both_directions_are_sounded_and_clocks_disagree_with_opposite_sign(bench, pair):
    there = sounder.sound(*pair, settings=bench.settings, now_s=1.0)
    back = sounder.sound(*reversed(pair), settings=bench.settings, now_s=2.0)
    drift_hz = 50.0 + 4 * np.hypot(there.cfo_std_hz, back.cfo_std_hz)
    assert there.cfo_hz == pytest.approx(-back.cfo_hz, abs=drift_hz)
    assert there.channel.gain_std / there.channel.gain > 0.5  # +-3 dB at either end, derived
    assert pair[0].reference.source is Source.DERIVED
    assert (there.channel.time_s, back.channel.time_s) == (1.0, 2.0)


def test_attenuation_and_gain_do_what_they_say(bench, pair):
    quiet = replace(bench.settings, tx_attenuation_db=bench.settings.tx_attenuation_db + 10.0)
    deaf = replace(bench.settings, rx_gain_db=bench.settings.rx_gain_db - 10.0)

    def level(sent, heard) -> tuple[float, float]:
        got = sounder.sound(*pair, settings=sent, receiver_settings=heard, now_s=0.0)
        return _db(float(got.estimate.gain.mean())), _db(got.channel.gain)

    plain = level(bench.settings, bench.settings)
    quieter = level(quiet, bench.settings)
    deafer = level(bench.settings, deaf)
    # the digital level follows the setting, the path gain does not
    assert quieter[0] - plain[0] == pytest.approx(-10.0, abs=1.0)
    assert deafer[0] - plain[0] == pytest.approx(-10.0, abs=1.0)
    assert quieter[1] == pytest.approx(plain[1], abs=1.0)
    assert deafer[1] == pytest.approx(plain[1], abs=1.0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rx_gain_db", 99.0, "rx gain 99.0 dB was not taken"),
        ("rx_gain_db", 30.4, "reads back 30"),
        ("carrier_hz", 7e9, "carrier 7000000000 Hz was not taken"),
        ("tx_attenuation_db", 10.1, "0.25 dB"),
        ("sample_rate_hz", 1e5, "sample rate"),
    ],
)
def test_a_refused_setting_is_told_and_changes_nothing(bench, pair, name, value, message):
    before = sounder.sound(*pair, settings=bench.settings, now_s=0.0)
    with pytest.raises(SettingRejected, match=message):
        pair[1].tune(replace(bench.settings, **{name: value}))
    pair[0].transmit(sounder.frame())
    samples = pair[1].receive(2 * sounder.FRAME_LENGTH)  # as it was tuned before
    received = float(np.mean(np.abs(samples) ** 2))
    share = pilots.BURST_LENGTH / sounder.FRAME_LENGTH
    expected = float(before.estimate.gain.mean() * share + before.estimate.noise_power.mean())
    assert _db(received / expected) == pytest.approx(0.0, abs=1.5)


def test_what_is_received_was_not_on_the_air_before_the_call(bench, pair):
    pilot = sounder.transmit_pilot(pair[0], bench.settings)
    for _ in range(3):
        assert bench.hear(pair[1], pilot).detection.detected
    pair[0].silence()
    bench.assert_silent(pair[1], pilot)
    pair[0].transmit(sounder.frame(pilot.sequence))
    assert bench.hear(pair[1], pilot).detection.detected


def test_a_new_transmission_replaces_the_old_one(bench, pair):
    pilot = sounder.transmit_pilot(pair[0], bench.settings)
    loud = bench.hear(pair[1], pilot)
    pair[0].transmit(0.5 * sounder.frame(pilot.sequence))
    soft = bench.hear(pair[1], pilot)
    change = _db(float(soft.estimate.gain.mean() / loud.estimate.gain.mean()))
    assert change == pytest.approx(-6.02, abs=1.0)


def test_listening_does_not_end_a_transmission(bench, pair):
    pilot = sounder.transmit_pilot(pair[0], bench.settings)
    assert len(pair[0].receive(4096)) == 4096
    assert bench.hear(pair[1], pilot).detection.detected


def test_tuning_ends_a_transmission(bench, pair):
    pilot = sounder.transmit_pilot(pair[0], bench.settings)
    pair[0].tune(bench.settings)
    bench.assert_silent(pair[1], pilot)


def test_calls_that_make_no_sense_are_refused(bench, pair):
    for samples in (np.zeros(0), np.array([1.2 + 0j])):
        with pytest.raises(ValueError, match="full scale"):
            pair[0].radio.transmit(samples)
    for count in (0, -1, 10_000_000):
        with pytest.raises(ValueError, match="count of samples"):
            pair[1].receive(count)
    assert len(pair[1].receive(3)) == 3


def test_an_untuned_radio_neither_sends_nor_listens(bench, pair):
    pair[0].close()
    fresh = bench.open(0)
    try:
        with pytest.raises(RadioError, match="call tune first"):
            fresh.receive(100)
        with pytest.raises(RadioError, match="call tune first"):
            fresh.radio.transmit(sounder.frame())
    finally:
        fresh.close()


def test_a_closed_radio_is_silent_and_stays_closed(bench, pair):
    pilot = sounder.transmit_pilot(pair[0], bench.settings)
    pair[0].close()
    bench.assert_silent(pair[1], pilot)
    pair[0].close()
    for call in (
        lambda: pair[0].tune(bench.settings),
        lambda: pair[0].radio.transmit(sounder.frame()),
        lambda: pair[0].receive(10),
        pair[0].silence,
    ):
        with pytest.raises(DeviceNotFound, match="closed"):
            call()


def test_the_bench_caps_the_power(bench, pair):
    pair[0].tune(replace(bench.settings, tx_attenuation_db=0.0))
    pair[1].tune(bench.settings)
    with pytest.raises(ValueError, match="the bench allows"):
        pair[0].transmit(np.ones(64))
    assert float(np.mean(np.abs(pair[1].receive(4096)) ** 2)) < 1e-4  # nothing was sent
