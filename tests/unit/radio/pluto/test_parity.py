"""The same sounding through the driver stack and by direct simulation, at equal settings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from siftmoe.radio.channel.link import Source
from siftmoe.radio.channel.multipath import AirPath
from siftmoe.radio.device import PowerReference, RadioSettings
from siftmoe.radio.emulator.config import AirConfig, DeviceEntry, LinkEntry
from siftmoe.radio.emulator.launch import EmulatedPlutos
from siftmoe.radio.opening import open_radio
from siftmoe.radio.power.conversion import typical_tx_dbm
from siftmoe.radio.power.store import CalibrationStore
from siftmoe.radio.simulated.air import Air
from siftmoe.radio.simulated.front_end import DeviceModel
from siftmoe.radio.simulated.radio import SimulatedRadio
from siftmoe.radio.sounding import pilots, sounder

RATE_HZ, CARRIER_HZ = 2e6, 2.45e9
PPM = {"a": 7.0, "b": -4.0}
TAPS_DB = (0.0, -3.0, -6.0)
SPACING_S = 0.5e-6
DELAY_S = 80e-9
COUNT = 30
FREQUENCIES_HZ = pilots.carriers() * RATE_HZ / pilots.FFT_SIZE


@dataclass
class Figures:
    """Of many soundings: dB against the truth, dB, dB, Hz against the truth."""

    gain_db: np.ndarray
    snr_db: np.ndarray
    noise_db: np.ndarray
    cfo_hz: np.ndarray
    cfo_std_hz: np.ndarray
    repeat_std_db: np.ndarray


def _measure(sender, receiver, *, settings, true_gain, true_cfo_hz) -> Figures:
    got = [sounder.sound(sender, receiver, settings=settings, now_s=0.0) for _ in range(COUNT)]
    gains = np.array([each.channel.gain for each in got])
    return Figures(
        gain_db=10 * np.log10(gains / true_gain),
        snr_db=10 * np.log10([each.snr for each in got]),
        noise_db=10 * np.log10([each.channel.noise_psd for each in got]),
        cfo_hz=np.array([each.cfo_hz for each in got]) - true_cfo_hz,
        cfo_std_hz=np.array([each.cfo_std_hz for each in got]),
        repeat_std_db=10 * np.log10(gains / gains.mean()),
    )


def _through_the_stack(gain_db: float, settings: RadioSettings, path) -> Figures:
    air = AirConfig(
        device=tuple(DeviceEntry(name=name, ppm=ppm) for name, ppm in PPM.items()),
        link=(
            LinkEntry(
                between=("a", "b"),
                gain_db=gain_db,
                delay_s=DELAY_S,
                taps_db=TAPS_DB,
                tap_spacing_s=SPACING_S,
            ),
        ),
    )
    store = CalibrationStore(path=path)
    with EmulatedPlutos(air) as plutos:
        radios = [open_radio(uri, calibrations=store) for uri in plutos.uris]
        try:
            return _measure(
                *radios,
                settings=settings,
                true_gain=plutos.gain("a", "b"),
                true_cfo_hz=plutos.cfo_hz("a", "b", CARRIER_HZ),
            )
        finally:
            for radio in radios:
                radio.close()


def _simulated(gain_db: float, settings: RadioSettings) -> Figures:
    reference = PowerReference(
        tx_full_scale_dbm=typical_tx_dbm(RATE_HZ), std_db=0.0, source=Source.MODELLED
    )
    devices = {name: DeviceModel(ppm=ppm, reference=reference) for name, ppm in PPM.items()}
    air = Air(devices, sample_rate_hz=RATE_HZ, seed=3)
    path = AirPath(
        gain=10 ** (gain_db / 10),
        delay_s=DELAY_S,
        tap_powers=tuple(10 ** (tap / 10) for tap in TAPS_DB),
        tap_spacing_s=SPACING_S,
    )
    air.connect("a", "b", path)
    return _measure(
        SimulatedRadio(air, "a"),
        SimulatedRadio(air, "b"),
        settings=settings,
        true_gain=air.gain("a", "b", FREQUENCIES_HZ),
        true_cfo_hz=air.cfo_hz("a", "b", CARRIER_HZ),
    )


@pytest.mark.parametrize(("gain_db", "rx_gain_db"), [(-64.0, 40.0), (-88.0, 60.0)])
def test_the_driver_stack_changes_no_estimate_by_more_than_a_fifth_of_a_decibel(
    tmp_path, gain_db, rx_gain_db
):
    settings = RadioSettings(
        carrier_hz=CARRIER_HZ,
        sample_rate_hz=RATE_HZ,
        tx_attenuation_db=10.0,
        rx_gain_db=rx_gain_db,
    )
    stack = _through_the_stack(gain_db, settings, tmp_path / "none.toml")
    direct = _simulated(gain_db, settings)
    assert abs(stack.gain_db.mean()) < 0.2
    assert abs(stack.gain_db.mean() - direct.gain_db.mean()) < 0.2
    assert abs(stack.noise_db.mean() - direct.noise_db.mean()) < 0.2
    assert abs(stack.snr_db.mean() - direct.snr_db.mean()) < 0.2
    for figures in (stack, direct):
        # errors of the CFO are those that it claims: chi-square of 30, 5 standard deviations
        excess = float(np.mean((figures.cfo_hz / figures.cfo_std_hz) ** 2))
        assert excess == pytest.approx(1.0, abs=5 * np.sqrt(2 / COUNT))
    ratio = stack.repeat_std_db.std() / direct.repeat_std_db.std()
    assert 0.5 < ratio < 2.0  # F(29, 29) beyond 1 in 2,000
