"""The simulated air against its parameters. Levels agree within five standard errors."""

from __future__ import annotations

import numpy as np
import pytest

from siftmoe.radio.channel.fading import FadingKind, FadingModel
from siftmoe.radio.channel.multipath import AirPath, PathResponse
from siftmoe.radio.device import RadioSettings
from siftmoe.radio.errors import DeviceNotFound, RadioError, SettingRejected
from siftmoe.radio.simulated.air import Air
from siftmoe.radio.simulated.front_end import DeviceModel
from siftmoe.radio.simulated.radio import SimulatedRadio
from siftmoe.radio.simulated.transmission import quantise
from siftmoe.radio.units import dbm_to_watt, thermal_noise_psd

RATE_HZ = 2e6
SETTINGS = RadioSettings(
    carrier_hz=2.4e9, sample_rate_hz=RATE_HZ, tx_attenuation_db=10.0, rx_gain_db=50.0
)


def _air(**devices: DeviceModel) -> Air:
    models = {"a": DeviceModel(), "b": DeviceModel(), **devices}
    return Air(models, sample_rate_hz=RATE_HZ, seed=3)


def _radio(air: Air, name: str, settings: RadioSettings = SETTINGS) -> SimulatedRadio:
    radio = SimulatedRadio(air, name)
    radio.tune(settings)
    return radio


def _tone(cycles: int, length: int = 1000) -> np.ndarray:
    return 0.5 * np.exp(2j * np.pi * cycles * np.arange(length) / length)


def _settings(**changes: float) -> RadioSettings:
    names = ("carrier_hz", "sample_rate_hz", "tx_attenuation_db", "rx_gain_db")
    return RadioSettings(**{**{n: getattr(SETTINGS, n) for n in names}, **changes})


def test_silence_is_thermal_noise():
    samples = _radio(_air(), "b", _settings(rx_gain_db=70.0)).receive(40_000)
    power = np.mean(np.abs(samples) ** 2) * dbm_to_watt(0.0) * 1e-7
    # plus the converter's own 2/12 steps^2
    rounding = 2 / 12 / 2048**2 * dbm_to_watt(0.0) * 1e-7
    expected = thermal_noise_psd(noise_figure_db=5.0) * RATE_HZ + rounding
    assert power == pytest.approx(expected, rel=5 / np.sqrt(40_000))


def test_level_follows_the_link_budget():
    air = _air()
    air.connect("a", "b", AirPath(gain=1e-6))
    sender, receiver = _radio(air, "a"), _radio(air, "b")
    sender.transmit(_tone(50))
    power = np.mean(np.abs(receiver.receive(4000)) ** 2)
    # -6.02 dBFS, +7 dBm, -10 dB, -60 dB, +50 dB
    assert 10 * np.log10(power) == pytest.approx(-6.02 + 7 - 10 - 60 + 50, abs=0.05)


def test_paths_are_directed():
    air = _air()
    air.connect("a", "b", AirPath(gain=1e-6))
    back, deaf = _radio(air, "b"), _radio(air, "a")
    back.transmit(_tone(50))
    assert np.abs(deaf.receive(2000)).max() < 0.01


def test_devices_add_up_and_can_be_told_apart():
    air = _air(c=DeviceModel())
    air.connect("a", "c", AirPath(gain=1e-6))
    air.connect("b", "c", AirPath(gain=1e-7))
    _radio(air, "a").transmit(_tone(50))
    _radio(air, "b").transmit(_tone(120))
    spectrum = np.abs(np.fft.fft(_radio(air, "c").receive(1000))) ** 2
    assert 10 * np.log10(spectrum[50] / spectrum[120]) == pytest.approx(10.0, abs=0.2)
    assert air.transmitting() == ["a", "b"]


def test_carrier_offset_is_that_of_both_oscillators():
    air = _air(a=DeviceModel(ppm=10.0), b=DeviceModel(ppm=-5.0))
    air.connect("a", "b", AirPath(gain=1e-5))
    sender, receiver = _radio(air, "a"), _radio(air, "b")
    sender.transmit(np.full(64, 0.5 + 0j))
    first, second = receiver.receive(4000), receiver.receive(4000)
    assert air.cfo_hz("a", "b", 2.4e9) == pytest.approx(36_000.0)
    turn = np.exp(2j * np.pi * 36_000.0 * np.arange(8000) / RATE_HZ)
    steady = np.concatenate([first, second]) / turn
    # continuous over captures
    assert np.std(np.angle(steady / steady.mean())) < 0.01


def test_another_channel_is_not_heard():
    air = _air()
    air.connect("a", "b", AirPath(gain=1e-5))
    sender = _radio(air, "a", _settings(carrier_hz=2.402e9))
    sender.transmit(_tone(50))
    assert np.abs(_radio(air, "b").receive(2000)).max() < 0.01


@pytest.mark.parametrize("delay", [0.0, 3.0, 3.37])
def test_delay_turns_the_phase_across_the_band(delay):
    air = _air()
    air.connect("a", "b", AirPath(gain=1e-5, delay_s=delay / RATE_HZ))
    rng = np.random.default_rng(1)
    carriers = np.concatenate([np.arange(1, 101), np.arange(156, 256)])
    grid = np.zeros(256, dtype=complex)
    grid[carriers] = np.exp(2j * np.pi * rng.random(200))
    wave = np.fft.ifft(grid)
    wave *= 0.5 / np.abs(wave).max()
    _radio(air, "a").transmit(wave)
    receiver = _radio(air, "b")
    receiver.receive(256)  # lets the filter fill
    seen = np.fft.fft(receiver.receive(256))[carriers] / np.fft.fft(wave)[carriers]
    signed = np.where(carriers < 128, carriers, carriers - 256)
    flat = seen * np.exp(2j * np.pi * signed * delay / 256)
    assert np.std(flat) / np.abs(flat.mean()) < 0.02
    expected = 1e-5 * dbm_to_watt(7.0) * 0.1 / (dbm_to_watt(0.0) * 1e-5)
    assert np.abs(flat.mean()) ** 2 == pytest.approx(expected, rel=0.02)


def test_true_gain_is_that_of_the_samples_and_fades():
    fading = FadingModel(kind=FadingKind.BLOCK, coherence_time_s=0.01)
    path = AirPath(gain=1e-5, tap_powers=(1.0, 0.5), tap_spacing_s=1 / RATE_HZ, fading=fading)
    air = _air()
    air.connect("a", "b", path)
    sender, receiver = _radio(air, "a"), _radio(air, "b")
    sender.transmit(_tone(50))
    gains = []
    for _ in range(5):
        true = air.gain("a", "b", np.array([50 / 1000 * RATE_HZ]))
        power = np.mean(np.abs(receiver.receive(2000)) ** 2)
        measured = power / 0.25 * dbm_to_watt(0.0) * 1e-5 / (dbm_to_watt(7.0) * 0.1)
        assert measured == pytest.approx(true, rel=0.02)
        gains.append(true)
        air.advance(0.01 - 2000 / RATE_HZ)
    assert len(set(gains)) == 5


def test_the_air_is_reproducible():
    def capture() -> np.ndarray:
        air = _air()
        fading = FadingModel(kind=FadingKind.JAKES, coherence_time_s=0.001)
        air.connect("a", "b", AirPath(gain=1e-6, fading=fading))
        _radio(air, "a").transmit(_tone(7))
        return _radio(air, "b").receive(3000)

    np.testing.assert_array_equal(capture(), capture())


def test_a_link_can_change_while_a_radio_transmits():
    air = _air()
    air.connect("a", "b", AirPath(gain=1e-6))
    _radio(air, "a").transmit(_tone(50))
    receiver = _radio(air, "b")
    before = np.mean(np.abs(receiver.receive(2000)) ** 2)
    air.connect("a", "b", AirPath(gain=1e-5))
    after = np.mean(np.abs(receiver.receive(2000)) ** 2)
    assert after / before == pytest.approx(10.0, rel=0.02)


def test_converter_clips_and_rounds():
    got = quantise(np.array([3.0 - 3.0j, 0.3 / 2048 + 0.7j / 2048]))
    np.testing.assert_array_equal(got, [2047 / 2048 - 1.0j, 1j / 2048])


def test_silence_retune_and_close_end_a_transmission():
    air = _air()
    for end in (SimulatedRadio.silence, lambda r: r.tune(SETTINGS), SimulatedRadio.close):
        radio = _radio(air, "a")
        radio.transmit(_tone(1))
        assert air.transmitting() == ["a"]
        end(radio)
        assert air.transmitting() == []


def test_misuse_is_named():
    air = _air()
    with pytest.raises(DeviceNotFound, match="no device 'x' on this air; there are: a, b"):
        SimulatedRadio(air, "x")
    with pytest.raises(RadioError, match="not tuned"):
        SimulatedRadio(air, "a").receive(10)
    closed = _radio(air, "a")
    closed.close()
    closed.close()
    with pytest.raises(DeviceNotFound, match="was closed"):
        closed.transmit(_tone(1))
    for samples in (np.empty(0, dtype=complex), np.array([1.5 + 0j]), np.array([np.nan + 0j])):
        with pytest.raises(ValueError, match="full scale"):
            _radio(air, "a").transmit(samples)
    with pytest.raises(ValueError, match="count"):
        _radio(air, "a").receive(0)
    with pytest.raises(ValueError, match="itself"):
        air.connect("a", "a", AirPath(gain=1.0))
    with pytest.raises(ValueError, match="not connected"):
        air.gain("b", "a", np.zeros(1))
    with pytest.raises(ValueError, match="backwards"):
        air.advance(-1.0)


@pytest.mark.parametrize("changes", [{"sample_rate_hz": 1e6}, {"rx_gain_db": 90.0}])
def test_rejected_settings_leave_the_old_ones(changes):
    air = _air()
    radio = _radio(air, "a")
    with pytest.raises(SettingRejected, match="device 'a'"):
        radio.tune(_settings(**changes))
    assert radio.receive(10).shape == (10,)


@pytest.mark.parametrize(
    "options",
    [{"gain": 0.0}, {"delay_s": -1e-9}, {"tap_powers": ()}, {"tap_powers": (1.0, -0.1)}],
)
def test_impossible_paths_are_refused(options):
    with pytest.raises(ValueError, match="air path"):
        AirPath(**{"gain": 1e-6, **options})


def test_smooth_fading_is_interpolated_without_being_seen():
    fading = FadingModel(kind=FadingKind.JAKES, coherence_time_s=0.01)
    path = AirPath(gain=1.0, tap_powers=(1.0, 0.5), tap_spacing_s=1 / RATE_HZ, fading=fading)
    response = PathResponse(path, seed=5, sample_rate_hz=RATE_HZ)
    times = np.arange(3_000) * 32e-6 + 17.0
    exact = np.concatenate([response.impulse(times[[i]]) for i in range(len(times))])
    error = np.mean(np.abs(response.impulse(times) - exact) ** 2) / np.mean(np.abs(exact) ** 2)
    assert 0.0 < error < 1e-9
