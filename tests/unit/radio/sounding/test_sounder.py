"""Pilot exchange between simulated radios, against the true values of the air."""

from __future__ import annotations

import numpy as np
import pytest

from siftmoe.radio.channel.fading import FadingKind, FadingModel
from siftmoe.radio.channel.link import ChannelOrigin
from siftmoe.radio.channel.multipath import AirPath
from siftmoe.radio.device import PowerReference, RadioSettings
from siftmoe.radio.errors import Overload, SettingRejected, SyncFailed
from siftmoe.radio.simulated.air import Air
from siftmoe.radio.simulated.front_end import DeviceModel
from siftmoe.radio.simulated.radio import SimulatedRadio
from siftmoe.radio.sounding import bounds, pilots
from siftmoe.radio.sounding.sounder import frame, sound
from siftmoe.radio.units import thermal_noise_psd

RATE_HZ = 2e6
CARRIER_HZ = 2.4e9
FREQUENCIES_HZ = pilots.carriers() * RATE_HZ / pilots.FFT_SIZE
SETTINGS = RadioSettings(
    carrier_hz=CARRIER_HZ, sample_rate_hz=RATE_HZ, tx_attenuation_db=10.0, rx_gain_db=60.0
)
BLOCK = FadingModel(kind=FadingKind.BLOCK, coherence_time_s=0.1)


def _pair(
    path: AirPath, *, seed: int = 1, **device: object
) -> tuple[Air, SimulatedRadio, SimulatedRadio]:
    air = Air(
        {"a": DeviceModel(ppm=12.0, **device), "b": DeviceModel(ppm=-7.0, **device)},
        sample_rate_hz=RATE_HZ,
        seed=seed,
    )
    air.connect("a", "b", path)
    return air, SimulatedRadio(air, "a"), SimulatedRadio(air, "b")


@pytest.mark.parametrize("gain_db", [-75.0, -85.0, -97.0])
def test_a_sounding_agrees_with_the_air_within_its_uncertainty(gain_db):
    path = AirPath(
        gain=10 ** (gain_db / 10),
        delay_s=0.33e-6,
        tap_powers=(1.0, 0.5, 0.25),
        tap_spacing_s=0.4e-6,
    )
    air, sender, receiver = _pair(path)
    got = sound(sender, receiver, settings=SETTINGS, now_s=5.0)
    true = air.gain("a", "b", FREQUENCIES_HZ)
    channel = got.channel
    assert abs(channel.gain - true) < 4 * channel.gain_std
    assert abs(got.cfo_hz - air.cfo_hz("a", "b", CARRIER_HZ)) < 4 * got.cfo_std_hz
    noise = thermal_noise_psd(noise_figure_db=5.0)
    # the converter adds 1 % at this gain
    assert channel.noise_psd == pytest.approx(1.01 * noise, rel=5 * bounds.noise_relative_std() / 2)
    snr = true * got.tx_power_w / (noise * RATE_HZ)
    assert 10 * np.log10(got.snr / snr) == pytest.approx(0.0, abs=0.5)
    assert channel.origin is ChannelOrigin.SOUNDED
    assert (channel.time_s, channel.bandwidth_hz) == (5.0, RATE_HZ)


def test_uncertainty_covers_the_errors_over_many_fading_blocks():
    path = AirPath(gain=10**-8.5, tap_powers=(1.0, 0.6, 0.3), tap_spacing_s=0.5e-6, fading=BLOCK)
    air, sender, receiver = _pair(path)
    cfo = sound(sender, receiver, settings=SETTINGS, now_s=0.0).cfo_hz
    errors = []
    for block in range(1, 120):
        air.advance(0.1 * block + 0.01 - air.now_s)
        true = air.gain("a", "b", FREQUENCIES_HZ)
        try:
            got = sound(sender, receiver, settings=SETTINGS, now_s=air.now_s, cfo_hz=cfo)
        except SyncFailed:
            assert 10 * np.log10(true) < -94.0  # only in a deep fade
            continue
        errors.append((got.channel.gain - true) / got.channel.gain_std)
    assert len(errors) > 100
    assert abs(np.mean(errors)) < 5 / np.sqrt(len(errors))
    assert np.std(errors) == pytest.approx(1.0, abs=0.25)


def test_directions_of_a_reciprocal_pair_agree():
    path = AirPath(gain=1e-8, fading=BLOCK, stream=4)
    air, a, b = _pair(path)
    air.connect("b", "a", path)
    there = sound(a, b, settings=SETTINGS, now_s=0.0).channel
    back = sound(b, a, settings=SETTINGS, now_s=0.0).channel
    assert abs(there.gain - back.gain) < 4 * np.hypot(there.gain_std, back.gain_std)


def test_more_bursts_halve_the_uncertainty():
    _, sender, receiver = _pair(AirPath(gain=1e-9))
    one = sound(sender, receiver, settings=SETTINGS, now_s=0.0, bursts=2)
    many = sound(sender, receiver, settings=SETTINGS, now_s=0.0, bursts=8)
    assert many.estimate.gain.shape == (8,)
    assert many.channel.gain_std == pytest.approx(0.5 * one.channel.gain_std, rel=0.1)


def test_an_uncalibrated_reference_widens_the_gain():
    reference = PowerReference(std_db=3.0)
    _, sender, receiver = _pair(AirPath(gain=1e-8), reference=reference)
    channel = sound(sender, receiver, settings=SETTINGS, now_s=0.0).channel
    spread_db = 10 / np.log(10) * channel.gain_std / channel.gain
    assert spread_db == pytest.approx(3.0 * np.sqrt(2), rel=0.01)


def test_no_burst_is_said_and_the_transmitter_is_silent():
    air, sender, receiver = _pair(AirPath(gain=1e-14))
    with pytest.raises(SyncFailed, match=r"no burst of 'a' found at 'b': metric .* needed"):
        sound(sender, receiver, settings=SETTINGS, now_s=0.0)
    assert air.transmitting() == []


def test_a_foreign_signal_is_no_burst():
    crowd = Air(
        {name: DeviceModel() for name in ("a", "b", "jammer")}, sample_rate_hz=RATE_HZ, seed=1
    )
    crowd.connect("a", "b", AirPath(gain=1e-14))
    crowd.connect("jammer", "b", AirPath(gain=1e-6))
    jammer = SimulatedRadio(crowd, "jammer")
    jammer.tune(SETTINGS)
    jammer.transmit(0.3 * np.exp(2j * np.pi * np.arange(100) / 10))
    sender, receiver = SimulatedRadio(crowd, "a"), SimulatedRadio(crowd, "b")
    with pytest.raises(SyncFailed):
        sound(sender, receiver, settings=SETTINGS, now_s=0.0)
    assert crowd.transmitting() == ["jammer"]


def test_a_clipping_receiver_is_refused():
    air, sender, receiver = _pair(AirPath(gain=1e-4))
    with pytest.raises(Overload, match=r"radio 'b': .* lower rx_gain_db"):
        sound(sender, receiver, settings=SETTINGS, now_s=0.0)
    assert air.transmitting() == []


def test_a_failing_receiver_leaves_no_transmission():
    air, sender, receiver = _pair(AirPath(gain=1e-8))
    high = RadioSettings(
        carrier_hz=CARRIER_HZ, sample_rate_hz=RATE_HZ, tx_attenuation_db=0.0, rx_gain_db=80.0
    )
    with pytest.raises(SettingRejected):
        sound(sender, receiver, settings=SETTINGS, receiver_settings=high, now_s=0.0)
    assert air.transmitting() == []


def test_bursts_are_bounded():
    _, sender, receiver = _pair(AirPath(gain=1e-8))
    with pytest.raises(ValueError, match="bursts"):
        sound(sender, receiver, settings=SETTINGS, now_s=0.0, bursts=31)


def test_frame_stays_within_full_scale():
    samples = frame()
    assert samples.shape == (2048,)
    assert np.abs(samples.view(float)).max() < 0.75
    assert not np.any(samples[pilots.BURST_LENGTH :])
