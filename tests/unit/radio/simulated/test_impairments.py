"""Imperfections of a simulated radio against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from siftmoe.radio.channel.multipath import AirPath
from siftmoe.radio.device import RadioSettings
from siftmoe.radio.simulated.air import Air
from siftmoe.radio.simulated.front_end import DeviceModel
from siftmoe.radio.simulated.impairments import (
    Impairments,
    Interferer,
    interpolated,
    needed,
    sampling_times,
)
from siftmoe.radio.simulated.radio import SimulatedRadio
from siftmoe.radio.units import dbm_to_watt

RATE_HZ = 2e6
CARRIER_HZ = 2.4e9
SETTINGS = RadioSettings(
    carrier_hz=CARRIER_HZ, sample_rate_hz=RATE_HZ, tx_attenuation_db=10.0, rx_gain_db=40.0
)
CLOCKS = np.arange(65536)


def _tone(cycles: float, count: int = 4096) -> np.ndarray:
    return 0.1 * np.exp(2j * np.pi * cycles * np.arange(count))


def _db(ratio: float) -> float:
    return 10 * math.log10(ratio)


def test_the_image_lies_at_the_mirrored_frequency_with_its_level():
    spectrum = np.abs(np.fft.fft(Impairments(image_db=-30.0).distorted(_tone(100 / 4096)))) ** 2
    assert _db(spectrum[-100] / spectrum[100]) == pytest.approx(-30.0, abs=1e-6)


def test_the_offset_is_that_of_full_scale():
    silence = Impairments(dc_dbfs=-26.0).distorted(np.zeros(8, dtype=complex))
    assert _db(float(np.mean(np.abs(silence) ** 2))) == pytest.approx(-26.0, abs=1e-9)


def test_saturation_leaves_weak_signals_and_bounds_strong_ones():
    radio = Impairments(saturation_dbfs=-20.0)
    weak = radio.distorted(0.001 * _tone(0.01))
    assert np.allclose(weak, 0.001 * _tone(0.01), rtol=1e-3)
    assert np.abs(radio.distorted(100 * _tone(0.01))).max() < 0.1
    # at the level itself 2^(-1/3) of the amplitude is left
    at = np.abs(radio.distorted(_tone(0.01)))
    assert at == pytest.approx(0.1 * 2 ** (-1 / 3), rel=1e-9)


def test_phase_noise_has_its_rms_and_modulus_1():
    radio = Impairments(phase_noise_deg=2.0)
    factors = radio.phasors(CLOCKS, sample_rate_hz=RATE_HZ, seed=1, device=0)
    assert np.allclose(np.abs(factors), 1.0)
    # 33 ms hold some 200 independent values
    assert np.degrees(np.angle(factors).std()) == pytest.approx(2.0, rel=0.25)
    assert Impairments().phasors(CLOCKS, sample_rate_hz=RATE_HZ, seed=1, device=0) is None


@pytest.mark.parametrize("ppm", [-40.0, 25.0, 40.0])
def test_a_sample_clock_that_is_off_stretches_what_it_samples(ppm):
    times = sampling_times(1000, 20_000, origin=1000, ppm=ppm)
    first, last = needed(times)
    tone = np.exp(2j * np.pi * 0.31 * np.arange(first, last))
    sampled = interpolated(tone, times)
    assert np.allclose(sampled, np.exp(2j * np.pi * 0.31 * times), atol=2e-4)
    assert times[-1] - times[0] == pytest.approx(19_999 / (1 + 1e-6 * ppm))


def test_an_interferer_arrives_with_its_power_in_its_time_and_band():
    def samples(**more: float) -> np.ndarray | None:
        entry = Interferer(carrier_hz=CARRIER_HZ + 100e3, power_dbm=-80.0, **more)
        return entry.samples(CLOCKS, carrier_hz=CARRIER_HZ, sample_rate_hz=RATE_HZ, key=7)

    tone = samples()
    assert np.mean(np.abs(tone) ** 2) == pytest.approx(dbm_to_watt(-80.0))
    assert np.argmax(np.abs(np.fft.fft(tone))) == pytest.approx(100e3 / RATE_HZ * 65536, abs=1)
    pulses = np.abs(samples(period_s=1e-3, duty=0.25)) > 0.0
    assert np.mean(pulses) == pytest.approx(0.25, abs=0.02)
    noise = samples(bandwidth_hz=200e3)
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(dbm_to_watt(-80.0), rel=0.1)
    # a Lorentzian holds half of its power between its half-power points
    frequency = np.fft.fftfreq(65536, 1 / RATE_HZ)
    power = np.abs(np.fft.fft(noise)) ** 2
    inside = power[np.abs(frequency - 100e3) < 100e3].sum() / power.sum()
    assert inside == pytest.approx(0.5, abs=0.06)


def test_an_interferer_out_of_band_is_not_received():
    entry = Interferer(carrier_hz=CARRIER_HZ + 1.5e6, power_dbm=-20.0)
    radio = Impairments(interferers=(entry,))
    heard = radio.interference(
        CLOCKS, carrier_hz=CARRIER_HZ, sample_rate_hz=RATE_HZ, seed=1, device=0
    )
    assert heard is None


def test_a_capture_in_parts_is_the_capture_as_a_whole():
    """Of the clock's error, phase noise and interferers; the noise differs by its parts."""
    spur = Interferer(carrier_hz=CARRIER_HZ + 50e3, power_dbm=-60.0, period_s=1e-3)
    noisy = Impairments(clock_ppm=40.0, phase_noise_deg=3.0, interferers=(spur,))
    air = Air(
        {"a": DeviceModel(), "b": DeviceModel(noise_figure_db=-60.0, impairments=noisy)},
        sample_rate_hz=RATE_HZ,
        seed=2,
    )
    air.connect("a", "b", AirPath(gain=1e-7))
    sender = SimulatedRadio(air, "a")
    sender.tune(SETTINGS)
    sender.transmit(_tone(0.05))
    whole = air.field("b", SETTINGS, start=5000, count=8000)
    later = air.field("b", SETTINGS, start=9000, count=4000, origin=5000)
    scale = np.abs(whole).max()
    assert np.allclose(later, whole[4000:], atol=1e-3 * scale)
