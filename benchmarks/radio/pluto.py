"""A Pluto through its driver stack: time of each call, and time until it is silent after a kill.

    python -m benchmarks.radio.pluto [--bench FILE] [--repeat N] [--json FILE]

Two emulated Plutos on this machine, or the radios of a bench file (see tests/hardware/conftest.py).
"in process" is pyadi-iio and libiio in the calling process, "own process" the same behind
`PlutoRadio`; the difference is the cost of surviving a driver that hangs or crashes. Silence is
the time from SIGKILL of the driver, of the program, or of both until the emulator has no
transmission, sampled about every millisecond: emulated Plutos only.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import msgspec
import numpy as np

from siftmoe.radio.device import Radio, RadioSettings
from siftmoe.radio.emulator.launch import EmulatedPlutos
from siftmoe.radio.opening import open_radio
from siftmoe.radio.pluto.driver import PlutoDriver
from siftmoe.radio.power.store import CalibrationStore
from siftmoe.radio.sounding import sounder

SETTINGS = RadioSettings(
    carrier_hz=2.45e9, sample_rate_hz=2e6, tx_attenuation_db=20.0, rx_gain_db=40.0
)
BLOCK = 5 * sounder.FRAME_LENGTH

PROGRAM = """
import sys
from siftmoe.radio.device import RadioSettings
from siftmoe.radio.opening import open_radio
from siftmoe.radio.sounding.sounder import frame
radio = open_radio(sys.argv[1])
radio.tune(RadioSettings(carrier_hz=2.45e9, sample_rate_hz=2e6, tx_attenuation_db=20.0,
                         rx_gain_db=40.0))
radio.transmit(frame())
print(radio.driver_pid, flush=True)
sys.stdin.readline()
"""


def _row(name: str, times: list[float]) -> dict:
    milliseconds = 1e3 * np.array(times)
    return {
        "what": name,
        "median_ms": float(np.median(milliseconds)),
        "p95_ms": float(np.quantile(milliseconds, 0.95)),
        "max_ms": float(milliseconds.max()),
        "count": len(times),
    }


def _time(action, repeat: int, after=None) -> list[float]:
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
        if after is not None:
            after()
    return times


def calls(uris: list[str], repeat: int) -> list[dict]:
    """Every call of a radio, in this process and in its own; then a whole sounding."""
    store = CalibrationStore(path=Path("unused.toml"))

    def supervised(uri: str) -> Radio:
        return open_radio(uri, calibrations=store)

    rows = [_row("open, own process", _time(lambda: supervised(uris[0]).close(), 5))]
    for place, make in (("in process", PlutoDriver), ("own process", supervised)):
        pair = [make(uri) for uri in uris]
        rows += _calls_of(*pair, place=place, repeat=repeat)
        for radio in pair:
            radio.close()
    return rows


def _calls_of(a: Radio, b: Radio, *, place: str, repeat: int) -> list[dict]:
    a.tune(SETTINGS)
    b.tune(SETTINGS)
    cfo_hz = sounder.sound(a, b, settings=SETTINGS, now_s=0.0).cfo_hz
    sounds = {"first contact": None, "CFO known": cfo_hz}
    named = {
        "tune, nothing new": (lambda: a.tune(SETTINGS), None),
        "transmit": (lambda: a.transmit(sounder.frame()), a.silence),
        "silence": (a.silence, lambda: a.transmit(sounder.frame())),
        f"receive {BLOCK} samples ({1e3 * BLOCK / 2e6:.1f} ms), one block before it": (
            lambda: b.receive(BLOCK),
            None,
        ),
    }
    for name, known in sounds.items():
        named[f"sounding, 4 bursts, {name}"] = (
            functools.partial(sounder.sound, a, b, settings=SETTINGS, now_s=0.0, cfo_hz=known),
            None,
        )
    return [
        _row(f"{name}, {place}", _time(action, repeat, after))
        for name, (action, after) in named.items()
    ]


def silence_after_kill(plutos: EmulatedPlutos, repeat: int) -> list[dict]:
    """Time until an emulated Pluto is silent after SIGKILL."""
    rows = []
    for whom in ("driver", "program", "both"):
        times = []
        for _ in range(repeat):
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, plutos.uris[0]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            driver = int(process.stdout.readline())
            if not plutos.transmitting():
                raise SystemExit("the program does not transmit")
            victims = {
                "driver": (driver,),
                "program": (process.pid,),
                "both": (driver, process.pid),
            }
            started = time.perf_counter()
            for pid in victims[whom]:
                os.kill(pid, signal.SIGKILL)
            while plutos.transmitting():
                time.sleep(1e-3)
            times.append(time.perf_counter() - started)
            process.kill()
            process.communicate()
        rows.append(_row(f"silent after SIGKILL of {whom}", times))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", type=Path)
    parser.add_argument("--repeat", type=int, default=50)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.bench:
        rows = calls(msgspec.toml.decode(args.bench.read_bytes())["uris"], args.repeat)
    else:
        with EmulatedPlutos(2) as plutos:
            rows = calls(list(plutos.uris), args.repeat)
            rows += silence_after_kill(plutos, max(5, args.repeat // 5))
    print("| what | median ms | 95 % ms | max ms | count |\n|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['what']} | {row['median_ms']:.1f} | {row['p95_ms']:.1f} | "
            f"{row['max_ms']:.1f} | {row['count']} |"
        )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
