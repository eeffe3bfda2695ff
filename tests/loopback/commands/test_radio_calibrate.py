"""``siftmoe radio calibrate`` on emulated Plutos whose true powers are known."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from siftmoe.radio.channel.link import Source
from siftmoe.radio.device import RadioSettings
from siftmoe.radio.emulator.config import AirConfig, DeviceEntry, LinkEntry
from siftmoe.radio.emulator.launch import EmulatedPlutos
from siftmoe.radio.opening import open_radio
from siftmoe.radio.power.store import CalibrationStore
from siftmoe.tools.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TX_DBM, RX_DBM, CABLE_DB = 5.3, -1.6, 40.0


@pytest.fixture(scope="module")
def plutos() -> Iterator[EmulatedPlutos]:
    """Two units off the typical figures, cabled by 40 dB."""
    devices = tuple(
        DeviceEntry(
            name=name,
            ppm=ppm,
            temperature_c=41.0,
            tx_full_scale_dbm=TX_DBM,
            fir_step_db=0.0,
            rx_full_scale_dbm=RX_DBM,
        )
        for name, ppm in (("a", 9.0), ("b", -6.0))
    )
    link = LinkEntry(transmitter="a", receiver="b", gain_db=-CABLE_DB)
    with EmulatedPlutos(AirConfig(device=devices, link=(link,))) as running:
        yield running


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "calibration.toml"


def calibrate(
    capsys: pytest.CaptureFixture[str], file: Path, *options: str
) -> tuple[int, dict[str, Any], str]:
    status = main(["radio", "calibrate", "--calibration", str(file), "--json", *options])
    captured = capsys.readouterr()
    return status, json.loads(captured.out or "{}"), captured.err


def expected_dbm(attenuation_db: float) -> float:
    """What a perfect meter at the port of "a" reads."""
    return TX_DBM - 6.0 - attenuation_db


def test_a_person_is_asked_for_the_reading_while_the_tone_is_on(
    plutos: EmulatedPlutos,
    file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Person(io.StringIO):
        """Reads the meter: what the emulated Pluto radiates at that moment."""

        def readline(self, *_: Any) -> str:
            return f"{plutos.state()['a']['radiated_dbm']:.2f}\n"

    monkeypatch.setattr(sys, "stdin", Person())
    status, entry, said = calibrate(capsys, file, plutos.uris[0], "--tx-attenuation-db", "10")
    assert status == 0
    assert "tone is on at 2450 MHz" in said
    assert entry["full_scale_dbm"] == pytest.approx(TX_DBM, abs=0.02)
    assert (entry["serial"], entry["path"]) == (plutos.serials[0], "transmit")
    assert entry["temperature_c"] == pytest.approx(41.0, abs=0.1)
    assert plutos.transmitting() == []
    with_it = open_radio(plutos.uris[0], calibrations=CalibrationStore.load(file))
    try:
        with_it.tune(
            RadioSettings(
                carrier_hz=2.45e9, sample_rate_hz=2e6, tx_attenuation_db=20.0, rx_gain_db=20.0
            )
        )
        reference = with_it.reference
    finally:
        with_it.close()
    assert (reference.source, reference.receiver_source) == (Source.MEASURED, Source.DERIVED)
    assert reference.tx_full_scale_dbm == pytest.approx(TX_DBM, abs=0.02)


def test_a_cabled_pair_after_a_reading_gives_the_receiver_too(
    plutos: EmulatedPlutos, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reading = ["--meter-dbm", f"{expected_dbm(20.0) - 0.5:.3f}", "--cable-db", "0.5"]
    status, _, _ = calibrate(capsys, file, plutos.uris[0], "--tx-attenuation-db", "20", *reading)
    assert status == 0
    status, pair, _ = calibrate(
        capsys, file, plutos.uris[0], "--receiver", plutos.uris[1], "--attenuator-db", "40"
    )
    assert status == 0
    assert (pair["transmitter"], pair["receiver"]) == plutos.serials
    assert pair["difference_db"] == pytest.approx(TX_DBM - RX_DBM, abs=0.05)
    assert plutos.transmitting() == []
    unit = CalibrationStore.load(file).unit(plutos.serials[1])
    reference = unit.reference(sample_rate_hz=2e6, carrier_hz=2.45e9, temperature_c=41.0)
    assert reference.rx_full_scale_dbm == pytest.approx(RX_DBM, abs=0.05)
    assert reference.receiver_source is Source.MEASURED
    assert main(["radio", "calibrate", "--calibration", str(file), "--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == 2
    assert "C_tx 5.30 ± " in listed[0]
    assert "C_tx - C_rx 6.9" in listed[1]


def test_a_program_may_read_the_meter(
    plutos: EmulatedPlutos, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = f"{sys.executable} -c 'print({expected_dbm(10.0)})'"
    status, entry, _ = calibrate(capsys, file, plutos.uris[0], "--meter-command", program)
    assert (status, entry["full_scale_dbm"]) == (0, pytest.approx(TX_DBM, abs=0.02))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--meter-dbm", "20"], "Check the meter's frequency"),
        (["--meter-command", "false"], "non-zero exit status"),
        (["--meter-command", "echo loud"], "'loud', is no number of dBm"),
        (["--meter-dbm", "-10", "--meter-std-db", "0"], "uncertainty"),
        (["--receiver", "ip:127.0.0.9", "--attenuator-db", "3"], "a loss of 10 to 120 dB"),
        (["--receiver", "ip:127.0.0.9"], "go together"),
        (["--meter-dbm", "-10", "--tone", "1"], "take one of"),
    ],
)
def test_what_is_wrong_is_refused_and_nothing_is_stored(
    plutos: EmulatedPlutos,
    file: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    expected: str,
) -> None:
    status, entry, said = calibrate(capsys, file, plutos.uris[0], *options)
    assert (status, entry) == (1, {})
    assert expected in said
    assert not file.exists()
    assert plutos.transmitting() == []


def test_without_a_radio_or_a_calibration_it_says_so(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["radio", "calibrate"]) == 1
    assert "name the radio" in capsys.readouterr().err
    assert main(["radio", "calibrate", "--calibration", str(file), "--list"]) == 0
    assert "powers are derived, ±3 dB" in capsys.readouterr().out


def test_the_tone_alone_stores_nothing(
    plutos: EmulatedPlutos, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, entry, said = calibrate(capsys, file, plutos.uris[0], "--tone", "0.1")
    assert (status, entry) == (0, {})
    assert "a typical radio gives -15.0 dBm" in said
    assert not file.exists()
    assert plutos.transmitting() == []
