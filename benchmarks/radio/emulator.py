"""Emulated Plutos: speed of the air, of an attribute, of a sounding, and errors of the stack

    python -m benchmarks.radio.emulator [--json] [--soundings N]

1. Samples per second for one receiver of five devices, by transmitters and paths. A Pluto at
   2 MS/s in real time needs 2 MS/s.
2. Time to read and to write an attribute through libiio.
3. Soundings through pyadi-iio, libiio and the emulator beside soundings directly on the simulated
   air: same paths, same noise figures, same estimator. Gain against the true one.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import iio
import numpy as np

from siftmoe.radio.channel.fading import FadingKind, FadingModel
from siftmoe.radio.channel.link import Source
from siftmoe.radio.channel.multipath import AirPath
from siftmoe.radio.device import PowerReference, RadioSettings
from siftmoe.radio.emulator.config import AirConfig, DeviceEntry, LinkEntry
from siftmoe.radio.emulator.launch import EmulatedPlutos
from siftmoe.radio.opening import open_radio
from siftmoe.radio.power.conversion import typical_tx_dbm
from siftmoe.radio.power.store import CalibrationStore
from siftmoe.radio.simulated.air import Air
from siftmoe.radio.simulated.front_end import DeviceModel, convert
from siftmoe.radio.simulated.radio import SimulatedRadio
from siftmoe.radio.sounding.sounder import frame, sound

RATE_HZ = 2e6
SETTINGS = RadioSettings(
    carrier_hz=2.4e9, sample_rate_hz=RATE_HZ, tx_attenuation_db=10.0, rx_gain_db=60.0
)
SIX_TAPS = (0.0, -3.0, -5.0, -7.0, -10.0, -13.0)
PATHS = {
    "flat, no delay": AirPath(gain=1e-7),
    "flat, delay 0.37 samples": AirPath(gain=1e-7, delay_s=0.37 / RATE_HZ),
    "6 taps, Jakes": AirPath(
        gain=1e-7,
        tap_powers=tuple(10 ** (tap / 10) for tap in SIX_TAPS),
        tap_spacing_s=1 / RATE_HZ,
        fading=FadingModel(kind=FadingKind.JAKES, coherence_time_s=0.1),
    ),
}
BLOCK = 10_240
#: Gain of the path, for SNRs over the sample rate of about 0, 10, 20 and 30 dB.
GAINS_DB = (-88.0, -78.0, -68.0, -58.0)


def render_rate(path: AirPath, transmitters: int, *, seconds: float = 0.5) -> float:
    """Samples per second of one receiver."""
    names = [f"d{index}" for index in range(5)]
    air = Air({name: DeviceModel() for name in names}, sample_rate_hz=RATE_HZ, seed=1)
    for source in names[1:]:
        air.connect(source, "d0", path)
    for source in names[1 : 1 + transmitters]:
        air.begin(source, SETTINGS, frame(), at=0)
    clock, started = 10**8, time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds:
        field = air.field("d0", SETTINGS, start=clock, count=BLOCK)
        convert(field, air.device("d0"), SETTINGS)
        clock += BLOCK
    return (clock - 10**8) / spent


def attribute_times(uri: str, rounds: int = 400) -> tuple[float, float]:
    """Median seconds to read and to write an attribute."""
    context = iio.Context(uri)
    attribute = context.find_device("ad9361-phy").find_channel("altvoltage1", True).attrs
    reads, writes = [], []
    for index in range(rounds):
        start = time.perf_counter()
        _ = attribute["frequency"].value
        middle = time.perf_counter()
        attribute["frequency"].value = str(2_400_000_000 + index)
        reads.append(middle - start)
        writes.append(time.perf_counter() - middle)
    return float(np.median(reads)), float(np.median(writes))


def errors_of(got: list, true_gain: float, true_cfo_hz: float) -> dict[str, float]:
    """Errors of soundings: gain in dB, CFO in Hz."""
    gain_db = 10 * np.log10([g.channel.gain / true_gain for g in got])
    return {
        "soundings": len(got),
        "snr_db": float(10 * np.log10(np.mean([g.snr for g in got]))),
        "gain_bias_db": float(np.mean(gain_db)),
        "gain_rms_db": float(np.sqrt(np.mean(gain_db**2))),
        "noise_db": float(10 * np.log10(np.mean([g.channel.noise_psd for g in got]))),
        "cfo_rms_hz": float(np.sqrt(np.mean([(g.cfo_hz - true_cfo_hz) ** 2 for g in got]))),
        "median_s": 0.0,
    }


def soundings(sender, receiver, count: int, cfo_hz: float) -> tuple[list, float]:
    got, times = [], []
    for _ in range(count):
        start = time.perf_counter()
        got.append(sound(sender, receiver, settings=SETTINGS, now_s=0.0, cfo_hz=cfo_hz))
        times.append(time.perf_counter() - start)
    return got, float(np.median(times))


def direct(gain_db: float, count: int) -> dict[str, float]:
    """Soundings on the air itself."""
    reference = PowerReference(
        tx_full_scale_dbm=typical_tx_dbm(2e6), std_db=0.0, source=Source.MODELLED
    )
    devices = {
        name: DeviceModel(ppm=ppm, reference=reference) for name, ppm in (("a", 4.0), ("b", -6.0))
    }
    air = Air(devices, sample_rate_hz=2e6, seed=2)
    air.connect("a", "b", AirPath(gain=10 ** (gain_db / 10), delay_s=1e-7))
    radios = [SimulatedRadio(air, name) for name in ("a", "b")]
    cfo_hz = air.cfo_hz("a", "b", SETTINGS.carrier_hz)
    got, median = soundings(*radios, count, cfo_hz)
    return {**errors_of(got, 10 ** (gain_db / 10), cfo_hz), "median_s": median}


def stacked(plutos: EmulatedPlutos, radios: list, gain_db: float, count: int) -> dict[str, float]:
    """Soundings through driver process, pyadi-iio, libiio and emulator."""
    plutos.set_gain("a", "b", gain_db)
    cfo_hz = plutos.cfo_hz("a", "b", SETTINGS.carrier_hz)
    got, median = soundings(*radios, count, cfo_hz)
    return {**errors_of(got, plutos.gain("a", "b"), cfo_hz), "median_s": median}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--soundings", type=int, default=200)
    args = parser.parse_args()
    rates = {
        name: [render_rate(path, transmitters) / 1e6 for transmitters in (0, 1, 4)]
        for name, path in PATHS.items()
    }
    config = AirConfig(
        device=(DeviceEntry(name="a", ppm=4.0), DeviceEntry(name="b", ppm=-6.0)),
        link=(LinkEntry(between=("a", "b"), gain_db=-70.0, delay_s=1e-7),),
        seed=3,
    )
    rows = []
    with EmulatedPlutos(config) as plutos:
        read_s, write_s = attribute_times(plutos.uris[0])
        unknown = CalibrationStore(path=Path(os.devnull))
        radios = [open_radio(uri, calibrations=unknown) for uri in plutos.uris]
        for gain_db in GAINS_DB:
            both = direct(gain_db, args.soundings), stacked(plutos, radios, gain_db, args.soundings)
            rows.append((gain_db, *both))
        for radio in radios:
            radio.close()
    report(rates, read_s, write_s, rows, as_json=args.json)


def report(rates, read_s, write_s, rows, *, as_json: bool) -> None:
    if as_json:
        print(
            json.dumps(
                {"rates_ms_s": rates, "read_s": read_s, "write_s": write_s, "soundings": rows}
            )
        )
        return
    print("Samples for one receiver of five devices, MS/s:\n")
    print("| paths | nobody transmits | 1 | 4 |\n|---|---|---|---|")
    for name, values in rates.items():
        print(f"| {name} |" + "".join(f" {value:.1f} |" for value in values))
    print(
        f"\nAttribute through libiio: read {1e3 * read_s:.2f} ms, write {1e3 * write_s:.2f} ms.\n"
    )
    print("Soundings of 4 bursts, straight on the air / through the stack:\n")
    print(
        "| SNR, dB | gain bias, dB | gain error rms, dB | noise, dB | CFO rms, Hz | one takes, ms |"
    )
    print("|---|---|---|---|---|---|")
    for _, one, two in rows:
        cells = [
            f"{one['snr_db']:.1f} / {two['snr_db']:.1f}",
            f"{one['gain_bias_db']:+.3f} / {two['gain_bias_db']:+.3f}",
            f"{one['gain_rms_db']:.3f} / {two['gain_rms_db']:.3f}",
            f"{one['noise_db']:.2f} / {two['noise_db']:.2f}",
            f"{one['cfo_rms_hz']:.2f} / {two['cfo_rms_hz']:.2f}",
            f"{1e3 * one['median_s']:.1f} / {1e3 * two['median_s']:.1f}",
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
