"""Soundings with imperfect radios and interference: right, refused, or of a stated uncertainty."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sounding_bench import CARRIER_HZ, RATE_HZ, STRONG, Bench, std_db

from siftmoe.radio.channel.fading import FadingKind, FadingModel
from siftmoe.radio.channel.link import Source
from siftmoe.radio.channel.multipath import AirPath
from siftmoe.radio.device import PowerReference
from siftmoe.radio.errors import Overload, RadioError, SyncFailed
from siftmoe.radio.simulated.impairments import Interferer
from siftmoe.radio.simulated.radio import SimulatedRadio


@pytest.mark.parametrize("seed", range(10))
def test_a_dc_offset_above_the_burst_changes_nothing(seed):
    bench = Bench(AirPath(gain=10**-8.5), seed=seed, dc_dbfs=-35.0)  # the burst is at -47 dBFS
    got = bench.sound(rx_gain_db=50.0)
    assert abs(bench.error_db(got)) < 4 * std_db(got)
    assert got.checks.reason == ""


@pytest.mark.parametrize(("powers", "refused"), [((1.0, 0.02), False), ((1.0, 1.0), True)])
def test_a_path_beyond_16_taps_is_widened_or_refused(powers, refused):
    bench = Bench(AirPath(gain=10**-7.6, tap_powers=powers, tap_spacing_s=40 / RATE_HZ))
    if refused:
        with pytest.raises(SyncFailed, match="late paths"):
            bench.sound()
        return
    got = bench.sound()
    assert "does not fit a channel of 16 taps" in got.checks.reason
    assert abs(bench.error_db(got)) < std_db(got)


def test_a_carrier_in_the_band_is_widened_or_refused():
    # The burst arrives at -88 dBm. At 271.9 kHz the carrier has the same phase in every pilot, and
    # is no noise by their differences.
    for offset_hz in (31.3e3, 271.855e3, -457e3):
        for power_dbm in (-98.0, -92.0, -87.0):
            spur = Interferer(carrier_hz=CARRIER_HZ + offset_hz, power_dbm=power_dbm)
            bench = Bench(AirPath(gain=10**-7.6), interferers=(spur,))
            try:
                got = bench.sound()
            except SyncFailed:
                continue
            assert abs(bench.error_db(got)) < 4 * std_db(got)


def test_a_spur_on_a_carrier_does_not_fit():
    spur = Interferer(carrier_hz=CARRIER_HZ + 271.855e3, power_dbm=-98.0)
    got = Bench(AirPath(gain=10**-7.6), interferers=(spur,)).sound()
    assert got.checks.fit > 20.0
    assert "interference" in got.checks.reason


def test_stationary_noise_in_the_band_is_noise():
    # as strong as the burst
    noise = Interferer(carrier_hz=CARRIER_HZ, power_dbm=-90.0, bandwidth_hz=400e3)
    bench = Bench(AirPath(gain=10**-7.6), interferers=(noise,))
    got = bench.sound()
    assert got.snr < 10.0
    assert abs(bench.error_db(got)) < 4 * std_db(got) + 0.3


@pytest.mark.parametrize("seed", range(6))
def test_pulses_in_the_gaps_or_bursts_are_widened_or_refused(seed):
    pulses = Interferer(
        carrier_hz=CARRIER_HZ,
        power_dbm=-86.0,
        bandwidth_hz=500e3,
        period_s=2048 / RATE_HZ,
        duty=0.3,
    )
    bench = Bench(AirPath(gain=10**-7.6), seed=seed, interferers=(pulses,))
    bench.air.advance(0.0001 * seed)
    try:
        got = bench.sound()
    except (SyncFailed, Overload):
        return
    assert abs(bench.error_db(got)) < 3 * std_db(got)


@pytest.mark.parametrize("image_db", [-45.0, -35.0, -25.0])
def test_an_image_stays_within_the_stated_uncertainty(image_db):
    bench = Bench(STRONG, image_db=image_db)
    got = bench.sound()
    assert abs(bench.error_db(got)) < 4 * std_db(got) + 0.02


@pytest.mark.parametrize("clock_ppm", [-40.0, 40.0])
def test_a_sample_clock_that_is_off_changes_little(clock_ppm):
    bench = Bench(STRONG, clock_ppm=clock_ppm)
    got = bench.sound()
    assert abs(bench.error_db(got)) < 0.02
    assert abs(got.cfo_hz - bench.cfo_hz()) < 5 * got.cfo_std_hz + 1.0


def test_the_offsets_uncertainty_covers_phase_noise():
    errors = []
    for seed in range(40):
        bench = Bench(STRONG, seed=seed, phase_noise_deg=2.0)
        got = bench.sound()
        errors.append((got.cfo_hz - bench.cfo_hz()) / got.cfo_std_hz)
        assert abs(bench.error_db(got)) < 0.05
    # four bursts: the ratio is Student's t of 3 degrees of freedom, half of them within 0.77
    assert np.median(np.abs(errors)) < 1.5


def test_the_offsets_uncertainty_covers_the_spread_of_a_fading_channel():
    fading = FadingModel(kind=FadingKind.JAKES, coherence_time_s=0.18 / 50.0)  # 50 Hz of Doppler
    path = AirPath(gain=10**-6.5, tap_powers=(1.0, 0.5), tap_spacing_s=0.5e-6, fading=fading)
    got = Bench(path).sound()
    by_noise = math.sqrt(float(np.sum(got.estimate.cfo_std_hz**2))) / 4
    assert got.cfo_std_hz > 1.5 * by_noise


def test_the_same_unit_at_both_ends_is_named(monkeypatch):
    monkeypatch.setattr(SimulatedRadio, "serial", "104473541196000000")
    with pytest.raises(RadioError, match=r"'a' and 'b' are one unit, serial number '1044735"):
        Bench().sound()


def test_noise_and_power_carry_their_source_and_uncertainty():
    bench = Bench()
    receiver = PowerReference(std_db=0.5, source=Source.MEASURED)
    bench.b._reference = receiver
    got = bench.sound()
    channel = got.channel
    assert channel.noise_source is Source.MEASURED
    assert channel.gain_source is Source.MODELLED  # the transmitter's is a model's
    assert got.tx_power_source is Source.MODELLED
    assert 10 / math.log(10) * channel.noise_psd_std / channel.noise_psd == pytest.approx(
        math.hypot(0.5, 10 / math.log(10) / math.sqrt(4 * 600)), rel=0.01
    )
