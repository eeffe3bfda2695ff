"""Faults between a program and its Pluto: the table of docs/explanation/pluto.md, emulated."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from siftmoe.radio.device import RadioSettings
from siftmoe.radio.emulator.launch import EmulatedPlutos
from siftmoe.radio.errors import DeviceNotFound, Overload, RadioError, SyncFailed
from siftmoe.radio.opening import open_radio
from siftmoe.radio.pluto.driver import PlutoDriver
from siftmoe.radio.pluto.look import look
from siftmoe.radio.pluto.process import DriverProcess
from siftmoe.radio.power.store import CalibrationStore
from siftmoe.radio.sounding import sounder
from siftmoe.radio.units import watt_to_dbm

SETTINGS = RadioSettings(
    carrier_hz=2.45e9, sample_rate_hz=2e6, tx_attenuation_db=10.0, rx_gain_db=40.0
)
PHY, DAC = "ad9361-phy", "cf-ad9361-dds-core-lpc"


@pytest.fixture(scope="module")
def plutos():
    with EmulatedPlutos(3) as plutos:
        yield plutos


@pytest.fixture(scope="module")
def opened(plutos):
    """The same radios in every test: each must have recovered from the fault of the test before."""
    store = CalibrationStore(path=Path("unused.toml"))
    radios = []
    try:
        radios.extend(open_radio(uri, calibrations=store) for uri in plutos.uris)
        yield radios
    finally:
        for radio in radios:
            radio.close()


@pytest.fixture
def radios(opened):
    for radio in opened:
        radio.tune(SETTINGS)
    return opened


def _sound(sender, receiver):
    return sounder.sound(sender, receiver, settings=SETTINGS, now_s=0.0)


def _falls_silent(plutos) -> bool:
    """Within a second: the emulator's threads notice a closed connection one by one."""
    deadline = time.monotonic() + 1.0
    while plutos.transmitting() and time.monotonic() < deadline:
        time.sleep(0.01)
    return plutos.transmitting() == []


def _attribute(uri: str, *attribute: str) -> str:
    """Read or write by an independent client."""
    command = ["iio_attr", "-u", uri, *attribute]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def _power(radio) -> float:
    return float(np.mean(np.abs(radio.receive(8 * sounder.FRAME_LENGTH)) ** 2))


def test_a_radio_that_is_not_there_is_refused_at_once(plutos):
    plutos.unplug("pluto-2")
    try:
        for ask in (open_radio, look):
            started = time.monotonic()
            with pytest.raises(DeviceNotFound, match=r"Connection refused.*check"):
                ask(plutos.uris[2])
            assert time.monotonic() - started < 5.0
    finally:
        plutos.plug("pluto-2")


def test_a_frozen_radio_is_given_up_and_works_when_it_thaws(plutos, radios):
    plutos.freeze("pluto-1")
    try:
        with pytest.raises(DeviceNotFound, match="no answer within 1 s"):
            open_radio(plutos.uris[1])
        with pytest.raises(RadioError, match=r"receive: (no answer|connection lost)"):
            radios[1].receive(4096)
    finally:
        plutos.thaw("pluto-1")
    # Tuned as before without being told: the settings are restored.
    assert len(radios[1].receive(4096)) == 4096
    assert _sound(radios[0], radios[1]).detection.detected


def test_a_cut_connection_ends_one_exchange_and_not_the_next(plutos, radios):
    pilot = sounder.transmit_pilot(radios[0], SETTINGS)
    plutos.drop("pluto-0")
    assert _falls_silent(plutos)  # a dropped connection alone silences it
    with pytest.raises(SyncFailed):
        sounder.hear(radios[1], pilot, settings=SETTINGS, now_s=0.0)
    radios[0].silence()
    assert plutos.transmitting() == []
    assert _sound(radios[0], radios[1]).detection.detected


def test_a_receiver_whose_connection_was_cut_is_tuned_over_a_new_one(plutos, radios):
    pilot = sounder.transmit_pilot(radios[0], SETTINGS)
    plutos.drop("pluto-1")
    with pytest.raises(DeviceNotFound, match="connection lost"):
        radios[1].receive(4096)
    plutos.drop("pluto-1")
    got = sounder.hear(radios[1], pilot, settings=SETTINGS, now_s=0.0)
    radios[0].silence()
    assert got.detection.detected


def test_unplugged_in_the_middle_of_a_round(plutos, radios):
    """The other links continue, the lost one is reported, and it recovers with the radio."""
    heard = []
    for turn in range(3):
        pilot = sounder.transmit_pilot(radios[0], SETTINGS)
        if turn == 1:
            plutos.unplug("pluto-2")
        for receiver in radios[1:]:
            try:
                got = sounder.hear(receiver, pilot, settings=SETTINGS, now_s=0.0)
                heard.append(got.detection.detected)
            except DeviceNotFound as error:
                heard.append(str(error))
        radios[0].silence()
        if turn == 1:
            plutos.plug("pluto-2")
    assert [item is True for item in heard] == [True, True, True, False, True, True]
    assert plutos.uris[2] in heard[3]
    # Plugging it in reset every setting of it; they were restored.
    assert plutos.transmitting() == []


def test_unplugged_while_it_transmits(plutos, radios):
    sounder.transmit_pilot(radios[2], SETTINGS)
    plutos.unplug("pluto-2")
    try:
        with pytest.raises(DeviceNotFound, match="Connection refused"):
            radios[2].silence()
    finally:
        plutos.plug("pluto-2")
    assert plutos.transmitting() == []
    assert _sound(radios[2], radios[1]).detection.detected


def test_a_radio_that_lost_its_settings_gets_them_back(plutos, radios):
    sounder.transmit_pilot(radios[0], SETTINGS)
    before = _power(radios[1])
    plutos.unplug("pluto-1")
    plutos.plug("pluto-1")
    assert "manual" not in _attribute(
        plutos.uris[1], "-c", "-i", PHY, "voltage0", "gain_control_mode"
    )
    with pytest.raises(DeviceNotFound, match="connection lost"):
        radios[1].receive(4096)
    assert _power(radios[1]) == pytest.approx(before, rel=0.1)


def test_out_of_range_and_too_near(plutos, radios):
    plutos.set_gain("pluto-0", "pluto-1", -140.0)
    try:
        with pytest.raises(SyncFailed, match="no burst"):
            _sound(radios[0], radios[1])
        plutos.set_gain("pluto-0", "pluto-1", -10.0)
        with pytest.raises(Overload, match="lower rx_gain_db"):
            _sound(radios[0], radios[1])
    finally:
        plutos.set_gain("pluto-0", "pluto-1", -70.0)
    assert plutos.transmitting() == []


def test_tones_of_others_are_ended_before_and_after_our_own_transmission(plutos, radios):
    """The tone generators, which take over when a buffer closes, were on before the driver came."""
    uri = plutos.uris[0]
    _attribute(uri, "-c", "-o", PHY, "altvoltage1", "powerdown", "0")
    _attribute(uri, "-c", "-o", PHY, "voltage0", "hardwaregain", "0")
    for tone in range(4):
        _attribute(uri, "-c", "-o", DAC, f"altvoltage{tone}", "scale", "0.5")
        _attribute(uri, "-c", "-o", DAC, f"altvoltage{tone}", "raw", "1")
    assert plutos.transmitting() == ["pluto-0"]
    assert plutos.state()["pluto-0"]["radiated_dbm"] > 0.0
    radio = open_radio(uri)
    try:
        assert plutos.transmitting() == []
        scales = [_attribute(uri, "-c", "-o", DAC, f"altvoltage{i}", "scale") for i in range(4)]
        assert [float(scale) for scale in scales] == [0.0] * 4
        sounder.transmit_pilot(radio, SETTINGS)
        assert plutos.transmitting() == ["pluto-0"]
        plutos.drop("pluto-0")  # nobody is left to silence it
        assert _falls_silent(plutos)
    finally:
        radio.close()


def test_the_transmitted_power_is_what_was_asked_for(plutos, radios):
    pilot = sounder.transmit_pilot(radios[0], SETTINGS)
    radiated = plutos.state()["pluto-0"]["radiated_dbm"]
    # 1440 samples of burst in 2048
    assert radiated == pytest.approx(watt_to_dbm(pilot.tx_power_w * 1440 / 2048), abs=0.1)
    radios[0].silence()
    assert plutos.transmitting() == []


def test_another_unit_at_the_same_address_is_not_taken_for_the_first(plutos, radios):
    driver = PlutoDriver(plutos.uris[0], serial="somebody else")
    with pytest.raises(DeviceNotFound, match=r"serial number .* expected 'somebody else'"):
        driver.open()
    driver.close()


@pytest.mark.parametrize(
    ("sabotage", "message"),
    [
        ("import ctypes.util; ctypes.util.find_library = lambda name: None", "libiio0"),
        ("import sys; sys.modules['iio'] = None", r"siftmoe\[pluto\]"),
        ("import sys; sys.modules['adi'] = None", r"siftmoe\[pluto\]"),
    ],
)
def test_what_is_not_installed_is_named(plutos, sabotage, message):
    program = (
        f"{sabotage}\nfrom siftmoe.radio.pluto.driver import PlutoDriver\n"
        f"from siftmoe.radio.errors import RadioError\n"
        f"try: PlutoDriver({plutos.uris[0]!r}).open()\nexcept RadioError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(message, done.stdout)


def test_a_driver_process_does_not_guess_at_broken_frames(plutos):
    command = [sys.executable, "-m", "siftmoe.radio.pluto.child", "--uri", plutos.uris[0]]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, **pipes) as process:
        # Its input stays open: at the end of it the process ends within 0.25 s, on a busy machine
        # before it has read anything.
        process.stdin.write(b"\xff" * 64)
        process.stdin.flush()
        assert process.wait(60) == 1
        assert b"frame claims" in process.stderr.read()
        assert process.stdout.read() == b""


def test_a_driver_process_refuses_what_it_does_not_know(plutos):
    process = DriverProcess(plutos.uris[0], timeout_s=1.0, serial="", on_end=lambda _: None)
    try:
        for header in ({"op": "format"}, {}, {"op": "tune"}, {"op": "receive", "count": "many"}):
            answer, _ = process.request(header, limit_s=60.0)
            assert answer["error"] == "ValueError"
        answer, _ = process.request({"op": "transmit"}, b"123", limit_s=5.0)
        assert answer["error"] == "ValueError"
        assert process.request({"op": "open"}, limit_s=5.0)[0]["serial"] == plutos.serials[0]
    finally:
        process.stop(10.0)


def test_one_file_alone_imports_the_vendors_packages():
    import siftmoe.radio

    imports = re.compile(r"^\s*(import|from)\s+(adi|iio)\b", re.MULTILINE)
    (folder,) = siftmoe.radio.__path__
    found = [path.name for path in Path(folder).rglob("*.py") if imports.search(path.read_text())]
    assert found == ["library.py"]
