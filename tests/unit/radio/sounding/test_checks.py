"""Soundings that would lie: each is right, is refused with its reason, or states its uncertainty.

The rows are situations on a bench, on the simulated air: a wrong carrier offset, another
transmitter, saturation, a DC offset, paths beyond 16 taps, interferers, imperfect radios.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from siftmoe.radio.channel.fading import FadingKind, FadingModel
from siftmoe.radio.channel.link import Source
from siftmoe.radio.channel.multipath import AirPath
from siftmoe.radio.device import PowerReference, RadioSettings
from siftmoe.radio.errors import Overload, RadioError, SyncFailed
from siftmoe.radio.simulated.air import Air
from siftmoe.radio.simulated.front_end import DeviceModel
from siftmoe.radio.simulated.impairments import Impairments, Interferer
from siftmoe.radio.simulated.radio import SimulatedRadio
from siftmoe.radio.sounding import pilots
from siftmoe.radio.sounding.sounder import Sounding, hear, sound, transmit_pilot

RATE_HZ = 2e6
CARRIER_HZ = 2.4e9
FREQUENCIES_HZ = pilots.carriers() * RATE_HZ / pilots.FFT_SIZE
SETTINGS = RadioSettings(
    carrier_hz=CARRIER_HZ, sample_rate_hz=RATE_HZ, tx_attenuation_db=10.0, rx_gain_db=60.0
)
#: Path whose burst arrives at -17 dB of full scale and 29 dB of SNR at these settings.
STRONG = AirPath(gain=10**-6.5, delay_s=0.33e-6)
MIDDLE = AirPath(gain=10**-7.5, delay_s=0.33e-6)
WEAK = AirPath(gain=10**-9.7, delay_s=0.33e-6)


class Bench:
    """Radios ``a`` and ``b`` on an air; ``b`` has the impairments."""

    def __init__(self, path: AirPath = MIDDLE, *, seed: int = 3, ppm: float = 12.0, **more: object):
        impairments = Impairments(**more)  # type: ignore[arg-type]
        devices = {
            "a": DeviceModel(ppm=ppm),
            "b": DeviceModel(ppm=-7.0, impairments=impairments),
            "neighbour": DeviceModel(ppm=3.0),
        }
        self.air = Air(devices, sample_rate_hz=RATE_HZ, seed=seed)
        self.air.connect("a", "b", path)
        self.a, self.b = SimulatedRadio(self.air, "a"), SimulatedRadio(self.air, "b")

    def sound(self, cfo_hz: float | None = None, rx_gain_db: float = 60.0) -> Sounding:
        listening = RadioSettings(
            carrier_hz=CARRIER_HZ,
            sample_rate_hz=RATE_HZ,
            tx_attenuation_db=10.0,
            rx_gain_db=rx_gain_db,
        )
        return sound(
            self.a,
            self.b,
            settings=SETTINGS,
            receiver_settings=listening,
            now_s=0.0,
            cfo_hz=cfo_hz,
        )

    def error_db(self, got: Sounding) -> float:
        return 10 * math.log10(got.channel.gain / self.air.gain("a", "b", FREQUENCIES_HZ))

    def cfo_hz(self) -> float:
        return self.air.cfo_hz("a", "b", CARRIER_HZ)


def _std_db(got: Sounding) -> float:
    return 10 / math.log(10) * got.channel.gain_std / got.channel.gain


@pytest.mark.parametrize("path", [STRONG, MIDDLE, WEAK], ids=["strong", "middle", "weak"])
def test_a_clean_sounding_passes_both_checks(path):
    bench = Bench(path)
    got = bench.sound()
    assert got.checks.reason == ""
    assert got.checks.relative_std == 0.0
    assert got.checks.fit == pytest.approx(1.0, abs=0.2)
    assert not got.checks.refused
    assert abs(bench.error_db(got)) < 4 * _std_db(got)


@pytest.mark.parametrize("off_hz", [-20e3, -12e3, -8e3, 8e3, 12e3, 16e3, 20e3])
def test_a_remembered_offset_that_is_wrong_is_searched_for_anew(off_hz):
    bench = Bench(STRONG)
    got = bench.sound(cfo_hz=bench.cfo_hz() + off_hz)
    assert abs(got.cfo_hz - bench.cfo_hz()) < 20.0
    assert abs(bench.error_db(got)) < 0.05
    assert got.checks.reason == ""


def test_a_weak_burst_at_a_remembered_offset_is_searched_for_anew():
    bench = Bench(WEAK)
    got = bench.sound(cfo_hz=bench.cfo_hz() + 3e3)
    assert abs(got.cfo_hz - bench.cfo_hz()) < 5 * got.cfo_std_hz
    assert abs(bench.error_db(got)) < 4 * _std_db(got)


def test_a_remembered_offset_beyond_the_sample_rate_is_no_error():
    bench = Bench(STRONG)
    assert abs(bench.sound(cfo_hz=5e6).cfo_hz - bench.cfo_hz()) < 20.0


@pytest.mark.parametrize("ppm", [48.0, 48.5, 49.0, 50.0])
def test_first_contact_beyond_the_range_is_refused(ppm):
    bench = Bench(STRONG, ppm=ppm)  # the other one is at -7 ppm, the range is 50 ppm
    with pytest.raises(SyncFailed) as refused:
        bench.sound()
    assert "no burst" in str(refused.value) or "wrong carrier offset" in str(refused.value)


def test_a_burst_in_a_side_lobe_of_the_offset_is_refused_with_its_reason():
    bench = Bench(AirPath(gain=10**-6.2), ppm=49.0, seed=3)
    with pytest.raises(SyncFailed, match=r"not plausible: the bursts hold \+1\d\.\d dB .*offset"):
        bench.sound()


def test_a_neighbours_burst_is_not_taken_for_ones_own():
    bench = Bench(MIDDLE)
    bench.air.connect("neighbour", "b", AirPath(gain=10**-6.5))
    neighbour = SimulatedRadio(bench.air, "neighbour")
    transmit_pilot(neighbour, SETTINGS)
    own = transmit_pilot(bench.a, SETTINGS)
    bench.a.silence()  # a transmitter that is dead
    with pytest.raises(SyncFailed):
        hear(bench.b, own, settings=SETTINGS, now_s=0.0)


def test_a_neighbour_beside_ones_own_burst_widens_the_gain():
    bench = Bench(MIDDLE)
    bench.air.connect("neighbour", "b", AirPath(gain=10**-8.2))
    neighbour = SimulatedRadio(bench.air, "neighbour")
    transmit_pilot(neighbour, SETTINGS)
    got = bench.sound()
    assert got.checks.reason
    assert abs(bench.error_db(got)) < 3 * _std_db(got)


@pytest.mark.parametrize("saturation_dbfs", [-13.0, -10.0])
def test_a_receiver_that_saturates_below_full_scale_is_an_overload(saturation_dbfs):
    bench = Bench(AirPath(gain=10**-6.2), saturation_dbfs=saturation_dbfs)
    with pytest.raises(Overload, match=r"distorted at -1\d dB of full scale.*lower rx_gain_db"):
        bench.sound()
    got = bench.sound(rx_gain_db=45.0)  # which is the way out
    assert abs(bench.error_db(got)) < 0.15


def test_slight_saturation_stays_within_the_stated_uncertainty():
    bench = Bench(AirPath(gain=10**-6.7), saturation_dbfs=-10.0)
    got = bench.sound()
    assert "saturation, which takes 0." in got.checks.reason
    assert -0.5 < bench.error_db(got) < -0.1
    assert abs(bench.error_db(got)) < 2 * _std_db(got)


@pytest.mark.parametrize("gain_db", [-58.0, -62.0, -66.0])
def test_compression_is_told_from_its_form_at_any_level(gain_db):
    """The burst is at -30 dB of full scale and above, the level of saturation follows it."""
    bench = Bench(AirPath(gain=10 ** (gain_db / 10)), saturation_dbfs=gain_db + 41.0)
    with pytest.raises(Overload, match=r"saturation, which takes \d\.\d dB or more"):
        bench.sound(rx_gain_db=46.0)


@pytest.mark.parametrize("seed", range(10))
def test_a_dc_offset_above_the_burst_changes_nothing(seed):
    bench = Bench(AirPath(gain=10**-8.5), seed=seed, dc_dbfs=-35.0)  # the burst is at -47 dBFS
    got = bench.sound(rx_gain_db=50.0)
    assert abs(bench.error_db(got)) < 4 * _std_db(got)
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
    assert abs(bench.error_db(got)) < _std_db(got)


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
            assert abs(bench.error_db(got)) < 4 * _std_db(got)


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
    assert abs(bench.error_db(got)) < 4 * _std_db(got) + 0.3


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
    assert abs(bench.error_db(got)) < 3 * _std_db(got)


@pytest.mark.parametrize("image_db", [-45.0, -35.0, -25.0])
def test_an_image_stays_within_the_stated_uncertainty(image_db):
    bench = Bench(STRONG, image_db=image_db)
    got = bench.sound()
    assert abs(bench.error_db(got)) < 4 * _std_db(got) + 0.02


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
