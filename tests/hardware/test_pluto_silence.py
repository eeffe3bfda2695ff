"""The transmitter is silent within a second of any end of the program or the driver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from siftmoe.radio.channel.link import Source
from siftmoe.radio.errors import RadioError
from siftmoe.radio.pluto.library import silence_device
from siftmoe.radio.sounding import sounder

pytestmark = pytest.mark.hardware("pluto")

#: No emulated Pluto may transmit longer after the end of its driver.
LIMIT_S = 1.0

#: Transmits until it is ended; says which processes do.
PROGRAM = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in background
from siftmoe.radio.device import RadioSettings
from siftmoe.radio.opening import open_radio
from siftmoe.radio.sounding.sounder import frame
uri, carrier, rate, attenuation, gain, end = sys.argv[1:]
radio = open_radio(uri, timeout_s=4.0)
radio.tune(RadioSettings(carrier_hz=float(carrier), sample_rate_hz=float(rate),
                         tx_attenuation_db=float(attenuation), rx_gain_db=float(gain)))
radio.transmit(frame())
print(radio.driver_pid, flush=True)
sys.stdin.readline()
if end == "busy":
    radio.receive(3_000_000)
"""


def _program(bench, *, end: str) -> tuple[subprocess.Popen, int]:
    settings = bench.settings
    figures = (
        settings.carrier_hz,
        settings.sample_rate_hz,
        settings.tx_attenuation_db,
        settings.rx_gain_db,
    )
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, bench.uris[0], *map(str, figures), end],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, int(process.stdout.readline())


def _kill(number: int, *pids: int) -> None:
    for pid in pids:
        os.kill(pid, number)


@pytest.fixture
def listener(bench):
    yield bench.radio(1)
    silence_device(bench.uris[0])


@pytest.fixture
def pilot(bench):
    """Description of the program's pilot for a receiver."""
    return sounder.Pilot(
        transmitter=bench.uris[0],
        tx_power_w=1e-6,
        tx_power_std_db=3.0,
        source=Source.DERIVED,
        carrier_hz=bench.settings.carrier_hz,
    )


@pytest.mark.parametrize(
    ("number", "whom"),
    [
        (signal.SIGKILL, "program"),
        (signal.SIGKILL, "driver"),
        (signal.SIGKILL, "both"),
        (signal.SIGTERM, "program"),
        (signal.SIGTERM, "driver"),
        (signal.SIGINT, "program"),
        (signal.SIGINT, "driver"),
        (signal.SIGSEGV, "driver"),
    ],
)
def test_ended_by_a_signal(bench, listener, pilot, number, whom):
    process, driver = _program(bench, end="idle")
    try:
        assert bench.hear(listener, pilot).detection.detected
        victims = {"program": (process.pid,), "driver": (driver,), "both": (driver, process.pid)}
        _kill(number, *victims[whom])
        time.sleep(LIMIT_S)
        bench.assert_silent(listener, pilot)
    finally:
        process.kill()
        process.communicate()


def test_killed_while_its_driver_is_in_native_code(bench, listener, pilot):
    process, _ = _program(bench, end="busy")
    try:
        assert bench.hear(listener, pilot).detection.detected
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(0.2)  # of the 3 s that the call takes
        _kill(signal.SIGKILL, process.pid)
        time.sleep(LIMIT_S)
        bench.assert_silent(listener, pilot)
    finally:
        process.kill()
        process.communicate()


def test_a_program_that_forgets_to_close(bench, listener, pilot):
    process, _ = _program(bench, end="idle")
    assert bench.hear(listener, pilot).detection.detected
    process.communicate("\n", timeout=60)
    assert process.returncode == 0
    bench.assert_silent(listener, pilot)  # at once: it waits for that


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_the_program_outlives_a_driver_that_crashes(bench, listener, number):
    sender = bench.open(0)
    try:
        pilot = sounder.transmit_pilot(sender, bench.settings)
        first = sender.radio.driver_pid
        _kill(number, first)
        time.sleep(LIMIT_S)
        bench.assert_silent(listener, pilot)
        with pytest.raises(RadioError, match=f"while it transmitted .*{number.name}"):
            sender.silence()
        assert sender.radio.driver_pid != first
        pilot = sounder.transmit_pilot(sender, bench.settings)
        assert bench.hear(listener, pilot).detection.detected
    finally:
        sender.close()


def test_a_driver_that_hangs_is_ended_and_the_next_call_works(bench, listener):
    sender = bench.open(0, timeout_s=0.3)
    try:
        pilot = sounder.transmit_pilot(sender, bench.settings)
        _kill(signal.SIGSTOP, sender.radio.driver_pid)
        with pytest.raises(RadioError, match="no answer within"):
            sender.silence()
        time.sleep(LIMIT_S)
        bench.assert_silent(listener, pilot)
        pilot = sounder.transmit_pilot(sender, bench.settings)
        assert bench.hear(listener, pilot).detection.detected
    finally:
        sender.close()
