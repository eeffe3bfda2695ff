"""`siftmoe radio probe` and `siftmoe radio sound` on emulated Plutos."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from siftmoe.radio.emulator.launch import EmulatedPlutos
from siftmoe.radio.power.calibration import PairEntry
from siftmoe.radio.power.store import CalibrationStore
from siftmoe.radio.units import linear_to_db
from siftmoe.tools.cli import main

KEYS = {
    "detected",
    "path_gain_db",
    "path_gain_std_db",
    "snr_db",
    "cfo_hz",
    "cfo_std_hz",
    "noise_dbm",
    "noise_std_db",
    "noise_source",
    "tx_power_std_db",
    "tx_power_source",
    "timing_samples",
    "carrier_hz",
    "sample_rate_hz",
}


@pytest.fixture(scope="module")
def plutos():
    with EmulatedPlutos(2) as plutos:
        yield plutos


@pytest.fixture(autouse=True)
def _no_calibration_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def _sound(plutos, *more: str) -> int:
    return main(["radio", "sound", "--tx", plutos.uris[0], "--rx", plutos.uris[1], *more])


def _lines(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_probe_tells_what_is_there_and_how_well_it_is_known(plutos, capsys):
    assert main(["radio", "probe", plutos.uris[0], "--json"]) == 0
    (answer,) = _lines(capsys)
    (radio,) = answer["radios"]
    assert radio["serial"] == plutos.serials[0]
    assert radio["lo_range_hz"] == [325e6, 3.8e9]
    assert radio["calibration"]["tx_source"] == "derived"
    assert radio["calibration"]["tx_std_db"] == 3.0
    assert main(["radio", "probe", plutos.uris[0]]) == 0
    text = capsys.readouterr().out
    assert plutos.serials[0] in text
    assert "+1.0 ± 3.0 dBm full scale at 2450 MHz, derived" in text


def test_probe_says_what_it_tried(plutos, capsys):
    plutos.unplug("pluto-1")
    try:
        assert main(["radio", "probe", plutos.uris[1], "--json"]) == 1
    finally:
        plutos.plug("pluto-1")
    (answer,) = _lines(capsys)
    assert answer["radios"] == []
    (tried,) = answer["tried"]
    assert tried["uri"] == plutos.uris[1]
    assert "Connection refused" in tried["reason"]


def test_sound_agrees_with_the_air(plutos, capsys):
    assert _sound(plutos, "--json") == 0
    (got,) = _lines(capsys)
    assert got.keys() >= KEYS
    assert got["detected"] is True
    true_db = linear_to_db(plutos.gain("pluto-0", "pluto-1"))
    assert got["path_gain_db"] == pytest.approx(true_db, abs=0.1)
    assert got["path_gain_std_db"] == pytest.approx(18**0.5, abs=0.1)  # 3 dB at either end
    assert got["path_gain_repeat_std_db"] < 0.1
    assert got["path_gain_source"] == "derived"
    true_hz = plutos.cfo_hz("pluto-0", "pluto-1", 2.45e9)
    assert abs(got["cfo_hz"] - true_hz) < 5 * got["cfo_std_hz"]
    assert plutos.transmitting() == []


def test_a_cable_between_the_two_counts_more_than_typical_figures(plutos, tmp_path, capsys):
    file = tmp_path / "calibration.toml"
    pair = PairEntry(
        transmitter=plutos.serials[0],
        receiver=plutos.serials[1],
        carrier_hz=2.45e9,
        difference_db=3.0,  # 2 dB more than typical
        std_db=0.25,
        transmitter_c=36.0,
        receiver_c=36.0,
    )
    CalibrationStore(path=file).with_entry(pair).save()
    assert _sound(plutos, "--json", "--both", "--calibration", str(file)) == 0
    there, back = _lines(capsys)
    assert there["path_gain_db"] == pytest.approx(-72.0, abs=0.1)
    assert there["path_gain_std_db"] == pytest.approx(0.25, abs=0.1)
    assert there["path_gain_source"] == "measured"
    assert back["path_gain_db"] == pytest.approx(-70.0, abs=0.1)
    assert back["path_gain_source"] == "derived"


def test_both_directions_and_repetitions_come_one_object_per_line(plutos, capsys):
    options = ("--both", "--watch", "--count", "2", "--interval-s", "0", "--json")
    assert _sound(plutos, *options) == 0
    got = _lines(capsys)
    first, second = plutos.uris
    assert [(each["tx"], each["rx"]) for each in got] == [(first, second), (second, first)] * 2
    assert all(each["detected"] for each in got)
    assert got[0]["cfo_hz"] == pytest.approx(-got[1]["cfo_hz"], abs=10.0)


def test_where_no_burst_is_found_no_channel_is_made_up(plutos, capsys):
    plutos.set_gain("pluto-0", "pluto-1", -150.0)
    try:
        assert _sound(plutos, "--json") == 1
        (got,) = _lines(capsys)
        assert _sound(plutos) == 1
    finally:
        plutos.set_gain("pluto-0", "pluto-1", -70.0)
    assert got["detected"] is False
    assert "no burst" in got["reason"]
    assert (got["carrier_hz"], got["sample_rate_hz"]) == (2.45e9, 2e6)
    settings = {"carrier_hz", "sample_rate_hz", "detected"}
    assert {got[key] for key in KEYS - settings} == {None}
    assert "nothing; no burst" in capsys.readouterr().out


def test_an_overloaded_receiver_is_no_measurement_either(plutos, capsys):
    plutos.set_gain("pluto-0", "pluto-1", -20.0)
    try:
        assert _sound(plutos, "--json") == 1
    finally:
        plutos.set_gain("pluto-0", "pluto-1", -70.0)
    (got,) = _lines(capsys)
    assert got["path_gain_db"] is None
    assert "lower rx_gain_db" in got["reason"]


def test_watching_goes_on_without_a_radio_and_with_it_again(plutos):
    command = [sys.executable, "-m", "siftmoe.tools.cli", "radio", "sound", "--json", "--watch"]
    command += ["--tx", plutos.uris[0], "--rx", plutos.uris[1], "--interval-s", "0.05"]
    watching = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def wait_for(detected: bool) -> dict:
        return next(
            exchange
            for exchange in map(json.loads, watching.stdout)
            if exchange["detected"] is detected
        )

    try:
        wait_for(True)
        plutos.unplug("pluto-1")
        assert plutos.uris[1] in wait_for(False)["reason"]
        plutos.plug("pluto-1")
        assert wait_for(True)["path_gain_db"] == pytest.approx(-70.0, abs=0.1)
    finally:
        watching.terminate()
        watching.communicate()
    assert plutos.transmitting() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--gain-db", "99"), "rx gain 99.0 dB was not taken"),
        (("--attenuation-db", "10.1"), "0.25 dB"),
        (("--carrier-hz", "-1"), "carrier_hz must be positive"),
        (("--bursts", "0"), "bursts must lie in 1..30"),
        (("--count", "0"), "--count must be positive"),
    ],
)
def test_mistakes_are_one_line_and_exit_status_1(plutos, capsys, options, message):
    assert _sound(plutos, *options) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_one_radio_is_no_link(capsys):
    assert main(["radio", "sound", "--tx", "ip:127.0.0.1", "--rx", "ip:127.0.0.1"]) == 1
    assert "two radios" in capsys.readouterr().err


def test_the_live_table_ends_with_ctrl_c_and_leaves_the_radios_silent(plutos):
    command = [sys.executable, "-m", "siftmoe.tools.cli", "radio", "sound", "--both", "--watch"]
    command += ["--tx", plutos.uris[0], "--rx", plutos.uris[1], "--interval-s", "0.05"]
    watching = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "FORCE_COLOR": "1"}
    )
    lines = []
    for line in watching.stdout:
        lines.append(line)
        if "3/3" in line:
            break
    watching.send_signal(signal.SIGINT)
    rest, _ = watching.communicate(timeout=60)
    assert watching.returncode == 0
    assert any("-70.0" in line or "-69.9" in line for line in lines)
    assert "Traceback" not in rest
    assert plutos.transmitting() == []
