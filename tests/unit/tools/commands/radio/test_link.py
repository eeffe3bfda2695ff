"""`siftmoe radio link` on emulated Plutos, through pyadi-iio and libiio."""

from __future__ import annotations

import json

import pytest

from siftmoe.radio.emulator.launch import EmulatedPlutos
from siftmoe.tools.cli import main


@pytest.fixture(scope="module")
def plutos():
    with EmulatedPlutos(2) as plutos:
        yield plutos


@pytest.fixture(autouse=True)
def _no_calibration_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def _link(plutos, *more: str) -> int:
    return main(["radio", "link", "--tx", plutos.uris[0], "--rx", plutos.uris[1], *more])


def test_bytes_arrive_at_every_attenuation(plutos, capsys):
    more = ["--bytes", "300", "--bursts", "4", "--scheme", "2", "--attenuation-db", "10", "20"]
    assert _link(plutos, *more, "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["tx_attenuation_db"] for row in rows] == [10.0, 20.0]
    for row in rows:
        assert row["payloads"] == row["bursts"] >= 4
        assert (row["wrong_payloads"], row["block_loss"]) == (0, 0.0)
        assert row["tx_power_source"] == "derived"
        assert row["throughput_bps"] == pytest.approx(8 * 300 / row["airtime_s"])
    assert rows[0]["tx_power_dbm"] - rows[1]["tx_power_dbm"] == pytest.approx(10.0)


def test_a_dead_link_is_said(plutos, capsys):
    plutos.set_gain("pluto-0", "pluto-1", -140.0)
    try:
        assert _link(plutos, "--bytes", "50", "--bursts", "2") == 1
        text = capsys.readouterr().out
        assert "0 of 2 bursts" in text
        assert "no header was received" in text
    finally:
        plutos.set_gain("pluto-0", "pluto-1", -70.0)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--scheme", "18"], "scheme"),
        (["--bytes", "0"], "nothing to test"),
        (["--bytes", "65537"], "65536"),
    ],
)
def test_wrong_options_are_named(plutos, more, reason, capsys):
    assert _link(plutos, *more) == 1
    assert reason in capsys.readouterr().err


def test_one_radio_is_no_link(capsys):
    assert main(["radio", "link", "--tx", "ip:127.0.0.1", "--rx", "ip:127.0.0.1"]) == 1
    assert "needs two radios" in capsys.readouterr().err
