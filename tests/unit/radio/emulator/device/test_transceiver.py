"""Values that the AD936x driver accepts, rounds and refuses, through a client's commands."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from siftmoe.radio.emulator.device.identity import Identity
from siftmoe.radio.emulator.device.medium import Medium
from siftmoe.radio.emulator.device.pluto import EmulatedPluto
from siftmoe.radio.emulator.iiod.session import Session

RX, TX = "ad9361-phy INPUT voltage0", "ad9361-phy OUTPUT voltage0"
TX_LO, RX_LO = "ad9361-phy OUTPUT altvoltage1", "ad9361-phy OUTPUT altvoltage0"
FIR = "ad9361-phy INPUT out voltage_filter_fir_en"


def _fir(taps: int, factor: int = 4) -> str:
    return f"RX 3 GAIN -6 DEC {factor}\nTX 3 GAIN 0 INT {factor}\n" + "1,1\n" * taps + "\n"


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ("-10", "-10.000000 dB"),
        ("-10.25", "-10.250000 dB"),
        ("-10.3", "-10.250000 dB"),
        ("-10.49 dB", "-10.250000 dB"),
        ("0", "0.000000 dB"),
        ("-89.75", "-89.750000 dB"),
    ],
)
def test_attenuation_has_quarter_decibel_steps(bench, asked, kept):
    assert bench.write("a", f"{TX} hardwaregain", asked) == b"%d\n" % len(asked)
    assert bench.read("a", f"{TX} hardwaregain").replace("-0.0", "0.0") == kept


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (f"{TX} hardwaregain", "0.25"),
        (f"{TX} hardwaregain", "-90"),
        (f"{TX} hardwaregain", "loud"),
        (f"{TX_LO} frequency", "324999999"),
        (f"{TX_LO} frequency", "3800000001"),
        (f"{TX_LO} frequency", "2.4e9"),
        (f"{RX} gain_control_mode", "automatic"),
        (f"{RX} rf_bandwidth", "100"),
        (f"{RX} sampling_frequency", "520832"),
        (f"{RX} sampling_frequency", "61440001"),
        (f"{TX_LO} powerdown", "2"),
        ("ad9361-phy filter_fir_config", "RX 3 GAIN -6 DEC 4\n"),
        ("ad9361-phy filter_fir_config", _fir(127)),
        ("ad9361-phy ensm_mode", "tdd"),
        ("ad9361-phy DEBUG loopback", "1"),
        ("cf-ad9361-dds-core-lpc OUTPUT altvoltage0 scale", "1.1"),
        ("cf-ad9361-dds-core-lpc OUTPUT altvoltage0 frequency", "1000001"),
    ],
)
def test_what_the_driver_refuses_changes_nothing(bench, where, value):
    before = bench.read("a", where)
    assert bench.write("a", where, value) == b"-22\n"
    assert bench.read("a", where) == before


def test_what_is_read_only_stays(bench):
    assert bench.write("a", f"{RX} rssi", "1") == b"-13\n"


def test_gain_is_ignored_unless_manual(bench):
    assert bench.write("a", f"{RX} hardwaregain", "20") == b"2\n"
    assert bench.read("a", f"{RX} hardwaregain") == "71.000000 dB"
    bench.write("a", f"{RX} gain_control_mode", "manual")
    bench.write("a", f"{RX} hardwaregain", "20")
    assert bench.read("a", f"{RX} hardwaregain") == "20.000000 dB"
    assert bench.write("a", f"{RX} hardwaregain", "72") == b"-22\n"


def test_gain_range_depends_on_the_carrier(bench):
    bench.write("a", f"{RX} gain_control_mode", "manual")
    assert bench.read("a", f"{RX} hardwaregain_available") == "[-3 1 71]"
    bench.write("a", f"{RX_LO} frequency", "900000000")
    assert bench.read("a", f"{RX} hardwaregain_available") == "[-1 1 73]"
    assert bench.write("a", f"{RX} hardwaregain", "73") == b"2\n"


def test_extended_tuning(bench):
    medium = Medium(bench.air, clock=lambda: 0.0, sleep=bench.sleep)
    identity = Identity(name="a", serial="1", extended_tuning=True)
    pluto = EmulatedPluto(medium, identity, rng=np.random.default_rng(1))
    session = Session(pluto, alive=lambda: True)
    ask = f"WRITE {RX_LO} frequency 10\r\n5900000000".encode()
    assert b"".join(session.receive(ask)) == b"10\n"
    reply = b"".join(session.receive(f"READ {RX} hardwaregain_available\r\n".encode()))
    assert b"[-10 1 62]" in reply


def test_slow_rates_need_the_filter(bench):
    assert bench.read("a", f"{RX} sampling_frequency") == "2000000"
    assert bench.write("a", FIR, "0") == b"-22\n"
    bench.write("a", f"{RX} sampling_frequency", "3000000")
    assert bench.write("a", FIR, "0") == b"1\n"
    assert bench.write("a", f"{RX} sampling_frequency", "2000000") == b"-22\n"
    text = _fir(128)
    assert bench.write("a", "ad9361-phy filter_fir_config", text) == b"%d\n" % len(text)
    assert bench.read("a", "ad9361-phy filter_fir_config") == "FIR Rx: 128,4 Tx: 128,4"
    assert bench.write("a", FIR, "1") == b"1\n"
    assert bench.write("a", f"{RX} sampling_frequency", "2000000") == b"7\n"


def test_path_rates_are_consistent(bench):
    rates = bench.read("a", "ad9361-phy tx_path_rates").split()
    values = {name: int(value) for name, value in (rate.split(":") for rate in rates)}
    assert list(values) == ["BBPLL", "DAC", "T2", "T1", "TF", "TXSAMP"]
    assert values["TXSAMP"] == 2_000_000
    assert 715e6 <= values["BBPLL"] <= 1430e6
    for fast, slow in pairwise(rates):
        assert int(fast.split(":")[1]) % int(slow.split(":")[1]) == 0


def test_a_power_cycle_forgets_every_setting(bench):
    bench.write("a", f"{TX_LO} frequency", "900000000")
    bench.plutos["a"].power_cycle()
    assert bench.read("a", f"{TX_LO} frequency") == "2450000000"
