"""Soundings that would lie: each is right, is refused with its reason, or states its uncertainty.

Wrong carrier offsets, other transmitters, saturation.
"""

from __future__ import annotations

import pytest
from sounding_bench import MIDDLE, RATE_HZ, SETTINGS, STRONG, WEAK, Bench, std_db

from siftmoe.radio.channel.multipath import AirPath
from siftmoe.radio.errors import Overload, SyncFailed
from siftmoe.radio.simulated.radio import SimulatedRadio
from siftmoe.radio.sounding.sounder import hear, transmit_pilot


@pytest.mark.parametrize("path", [STRONG, MIDDLE, WEAK], ids=["strong", "middle", "weak"])
def test_a_clean_sounding_passes_both_checks(path):
    bench = Bench(path)
    got = bench.sound()
    assert got.checks.reason == ""
    assert got.checks.relative_std == 0.0
    assert got.checks.fit == pytest.approx(1.0, abs=0.2)
    assert not got.checks.refused
    assert abs(bench.error_db(got)) < 4 * std_db(got)


@pytest.mark.parametrize("early", [0, 1, 5, 12, 20])
def test_a_burst_at_the_captures_start_fits_as_well(early):
    bench = Bench(STRONG)
    pilot = transmit_pilot(bench.a, SETTINGS)
    bench.air.advance((2048 - early) / RATE_HZ)
    got = hear(bench.b, pilot, settings=SETTINGS, now_s=0.0)
    assert got.checks.reason == ""


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
    assert abs(bench.error_db(got)) < 4 * std_db(got)


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
    assert abs(bench.error_db(got)) < 3 * std_db(got)


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
    assert abs(bench.error_db(got)) < 2 * std_db(got)


def test_saturation_below_the_noise_of_the_fit_is_still_stated():
    bench = Bench(AirPath(gain=10**-7.0), saturation_dbfs=-10.5)
    got = bench.sound()
    assert -0.2 < bench.error_db(got) < -0.1
    assert abs(bench.error_db(got)) < 2 * std_db(got)


@pytest.mark.parametrize("gain_db", [-58.0, -62.0, -66.0])
def test_compression_is_told_from_its_form_at_any_level(gain_db):
    """The burst is at -30 dB of full scale and above, the level of saturation follows it."""
    bench = Bench(AirPath(gain=10 ** (gain_db / 10)), saturation_dbfs=gain_db + 41.0)
    with pytest.raises(Overload, match=r"saturation, which takes \d\.\d dB or more"):
        bench.sound(rx_gain_db=46.0)
