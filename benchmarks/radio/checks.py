"""Soundings on imperfect air: what each check finds, and what the gain is worth.

    python -m benchmarks.radio.checks [--seeds N]

Each case is sounded once per seed on the simulated air: a burst of 64 uW over a path of 16 taps or
less unless the case says otherwise, 2 MS/s, four bursts. ``unchecked`` is the error of the gain
that an estimator without checks returns at the carrier offset given to it; ``error`` is that of the
soundings that were not refused, with the largest ratio of error to stated uncertainty. Refused are
those that raised SyncFailed or Overload. Medians over the seeds.
"""

from __future__ import annotations

import argparse
import math
import os
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from siftmoe.radio.channel.multipath import AirPath
from siftmoe.radio.device import RadioSettings
from siftmoe.radio.errors import Overload, SyncFailed
from siftmoe.radio.simulated.air import Air
from siftmoe.radio.simulated.front_end import DeviceModel
from siftmoe.radio.simulated.impairments import Impairments, Interferer
from siftmoe.radio.simulated.radio import SimulatedRadio
from siftmoe.radio.sounding import pilots, reading
from siftmoe.radio.sounding.signal import FRAME_LENGTH, Pilot, burst_mean_square, transmit_pilot
from siftmoe.radio.sounding.sounder import hear
from siftmoe.radio.sounding.sync import Search

RATE_HZ = 2e6
CARRIER_HZ = 2.4e9
BURSTS = 4
FREQUENCIES_HZ = pilots.carriers() * RATE_HZ / pilots.FFT_SIZE


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    gain_db: float = -75.0
    rx_gain_db: float = 60.0
    taps: tuple[float, ...] = (1.0,)
    spacing_s: float = 0.0
    ppm: float = 12.0
    off_hz: float | None = None
    neighbour_db: float | None = None
    dead: bool = False
    impairments: dict[str, Any] = field(default_factory=dict)


def _interferer(**more: float) -> dict[str, Any]:
    """An interferer beside a burst that arrives at -87 dBm."""
    return {"interferers": (Interferer(**{"carrier_hz": CARRIER_HZ + 271.855e3, **more}),)}


CASES = (
    Case(name="clean, SNR 29 dB", gain_db=-65.0),
    Case(name="clean, SNR 19 dB"),
    Case(name="clean, SNR -3 dB", gain_db=-97.0),
    Case(name="clean, 6 taps", gain_db=-65.0, taps=(1, 0.5, 0.3, 0.2, 0.1, 0.05), spacing_s=0.9e-6),
    Case(name="remembered offset 8 kHz off", gain_db=-65.0, off_hz=8e3),
    Case(name="remembered offset 12 kHz off", gain_db=-65.0, off_hz=12e3),
    Case(name="remembered offset 16 kHz off", gain_db=-65.0, off_hz=16e3),
    Case(name="first contact, 57 ppm apart", gain_db=-62.0, ppm=50.0),
    Case(name="neighbour 10 dB stronger, own dead", neighbour_db=-65.0, dead=True),
    Case(name="neighbour 7 dB weaker", neighbour_db=-82.0),
    Case(name="saturation, 0.1 dB", gain_db=-70.0, impairments={"saturation_dbfs": -10.5}),
    Case(name="saturation, 0.7 dB", gain_db=-65.0, impairments={"saturation_dbfs": -10.5}),
    Case(name="saturation, 2.3 dB", gain_db=-60.0, impairments={"saturation_dbfs": -10.5}),
    Case(name="saturation, 3.4 dB", gain_db=-58.0, impairments={"saturation_dbfs": -10.5}),
    Case(
        name="DC offset 12 dB above the burst",
        gain_db=-85.0,
        rx_gain_db=50.0,
        impairments={"dc_dbfs": -35.0},
    ),
    Case(name="path 20 us late, -17 dB", taps=(1, 0.02), spacing_s=20e-6),
    Case(name="path 20 us late, -6 dB", taps=(1, 0.25), spacing_s=20e-6),
    Case(name="path 20 us late, 0 dB", taps=(1, 1), spacing_s=20e-6),
    Case(name="spur on a carrier, -20 dB", impairments=_interferer(power_dbm=-107.0)),
    Case(name="spur on a carrier, -10 dB", impairments=_interferer(power_dbm=-97.0)),
    Case(name="spur on a carrier, 0 dB", impairments=_interferer(power_dbm=-87.0)),
    Case(
        name="pulses of half a frame, 0 dB",
        impairments=_interferer(
            power_dbm=-87.0, bandwidth_hz=5e5, period_s=FRAME_LENGTH / RATE_HZ, duty=0.5
        ),
    ),
    Case(name="image -35 dB", gain_db=-65.0, impairments={"image_db": -35.0}),
    Case(name="image -25 dB", gain_db=-65.0, impairments={"image_db": -25.0}),
    Case(name="sample clock 40 ppm", gain_db=-65.0, impairments={"clock_ppm": 40.0}),
    Case(name="phase noise 2 degrees", gain_db=-65.0, impairments={"phase_noise_deg": 2.0}),
)


def main() -> int:
    """Sound every case and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    args = parser.parse_args()
    print(
        "| case | unchecked, dB | refused | error, dB | stated u, dB | worst error/u "
        "| contrast, dB | lack of fit | compression, dB |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for case in CASES:
        found = [_sound(case, seed) for seed in range(args.seeds)]
        print(f"| {case.name} | {_row(found)} |")
    return 0


def _sound(case: Case, seed: int) -> dict[str, float]:
    air = Air(
        {
            "a": DeviceModel(ppm=case.ppm),
            "b": DeviceModel(ppm=-7.0, impairments=Impairments(**case.impairments)),
            "neighbour": DeviceModel(ppm=3.0),
        },
        sample_rate_hz=RATE_HZ,
        seed=seed,
    )
    air.advance(0.0137 * seed)
    path = AirPath(
        gain=10 ** (case.gain_db / 10),
        delay_s=0.33e-6,
        tap_powers=case.taps,
        tap_spacing_s=case.spacing_s,
    )
    air.connect("a", "b", path)
    sent = RadioSettings(
        carrier_hz=CARRIER_HZ, sample_rate_hz=RATE_HZ, tx_attenuation_db=10.0, rx_gain_db=0.0
    )
    listening = RadioSettings(
        carrier_hz=CARRIER_HZ,
        sample_rate_hz=RATE_HZ,
        tx_attenuation_db=10.0,
        rx_gain_db=case.rx_gain_db,
    )
    own = SimulatedRadio(air, "a")
    pilot = transmit_pilot(own, sent)
    if case.dead:
        own.silence()
    if case.neighbour_db is not None:
        air.connect("neighbour", "b", AirPath(gain=10 ** (case.neighbour_db / 10)))
        transmit_pilot(SimulatedRadio(air, "neighbour"), sent)
    given = None if case.off_hz is None else air.cfo_hz("a", "b", CARRIER_HZ) + case.off_hz
    truth = air.gain("a", "b", FREQUENCIES_HZ)
    receiver = SimulatedRadio(air, "b")
    result = _unchecked(receiver, pilot, listening, given=given, truth=truth)
    try:
        got = hear(receiver, pilot, settings=listening, now_s=0.0, bursts=BURSTS, cfo_hz=given)
    except (SyncFailed, Overload):
        return {**result, "refused": 1.0}
    error = (got.channel.gain - truth) / got.channel.gain_std
    std_db = 10 / math.log(10) * got.channel.gain_std / got.channel.gain
    error_db = 10 * math.log10(got.channel.gain / truth)
    return {**result, "refused": 0.0, "error": error_db, "std": std_db, "ratio": abs(error)}


def _unchecked(
    receiver: SimulatedRadio,
    pilot: Pilot,
    settings: RadioSettings,
    *,
    given: float | None,
    truth: float,
) -> dict[str, float]:
    """Read a capture as an estimator without checks would, at the offset that it is given."""
    receiver.tune(settings)
    samples = receiver.receive((BURSTS + 1) * FRAME_LENGTH)
    reach = 0.0 if given is not None else 1e-6 * reading.FIRST_CONTACT_PPM * CARRIER_HZ
    search = Search(
        sample_rate_hz=RATE_HZ, cfo_hz=given or 0.0, cfo_range_hz=reach, sequence=pilot.sequence
    )
    best, _ = reading._best(samples - samples.mean(), [search], bursts=BURSTS)
    if best is None:
        return {}
    scale = receiver.reference.rx_power_w(1.0, settings) * burst_mean_square(pilot.sequence)
    gain = float(best.estimate.gain.mean()) * scale / pilot.tx_power_w
    contrast = max(1.0 + best.checks.contrast, 1e-3)
    return {
        "unchecked": 10 * math.log10(max(gain, 1e-30) / truth),
        "contrast": 10 * math.log10(contrast),
        "fit": best.checks.fit,
        "compression": best.checks.compression_db,
    }


def _row(found: list[dict[str, float]]) -> str:
    def median(key: str, digits: int = 2) -> str:
        values = [each[key] for each in found if key in each]
        return f"{np.median(values):.{digits}f}" if values else "-"

    refused = sum(each["refused"] for each in found)
    ratios = [each["ratio"] for each in found if "ratio" in each]
    cells = (
        median("unchecked"),
        f"{refused:.0f} of {len(found)}",
        median("error"),
        median("std"),
        f"{max(ratios):.1f}" if ratios else "-",
        median("contrast"),
        median("fit", 1),
        median("compression"),
    )
    return " | ".join(cells)


if __name__ == "__main__":
    raise SystemExit(main())
