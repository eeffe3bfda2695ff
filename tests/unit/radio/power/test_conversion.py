"""Powers of a unit with and without calibration, and the calibration file."""

from __future__ import annotations

import math
import stat
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from siftmoe.radio.channel.link import Source
from siftmoe.radio.device import PowerReference, RadioSettings
from siftmoe.radio.errors import CalibrationError
from siftmoe.radio.power.calibration import REACH_HZ, REACH_K, LevelEntry, PairEntry
from siftmoe.radio.power.calibration_file import default_path
from siftmoe.radio.power.conversion import mean_square, transmit_power, typical_tx_dbm
from siftmoe.radio.power.store import CalibrationStore, UnitCalibration
from siftmoe.radio.units import watt_to_dbm

if TYPE_CHECKING:
    from pathlib import Path

LO = 2.4e9
RATE_HZ = 2e6
SENT = LevelEntry(
    serial="A1",
    path="transmit",
    carrier_hz=LO,
    full_scale_dbm=6.4,
    std_db=0.3,
    temperature_c=40.0,
    measured_at="2026-03-01T10:00:00+00:00",
    method='power meter "E4417A"',
)
PAIR = PairEntry(
    transmitter="A1",
    receiver="B2",
    carrier_hz=LO,
    difference_db=7.5,
    std_db=0.4,
    transmitter_c=40.0,
    receiver_c=35.0,
)


@pytest.fixture
def store(tmp_path: Path) -> CalibrationStore:
    return CalibrationStore(path=tmp_path / "siftmoe" / "calibration.toml")


def test_power_follows_from_samples_attenuation_and_level() -> None:
    settings = RadioSettings(
        carrier_hz=LO, sample_rate_hz=2e6, tx_attenuation_db=20.0, rx_gain_db=30.0
    )
    tone = 0.5 * np.exp(1j * np.arange(1000))
    reference = UnitCalibration("A1", (SENT,)).reference(
        sample_rate_hz=RATE_HZ, carrier_hz=LO, temperature_c=40.0
    )
    power = transmit_power(mean_square(tone), settings=settings, reference=reference)
    assert watt_to_dbm(power.power_w) == pytest.approx(20 * math.log10(0.5) - 20.0 + 6.4)
    assert power.std_w / power.power_w == pytest.approx(0.3 * math.log(10) / 10)
    assert power.source is Source.MEASURED
    derived = transmit_power(0.25, settings=settings, reference=PowerReference())
    assert derived.source is Source.DERIVED
    assert derived.std_w / derived.power_w == pytest.approx(0.691, abs=1e-3)


@pytest.mark.parametrize("wrong", [-0.1, 2.1, math.nan])
def test_a_mean_square_that_no_samples_have_is_refused(wrong: float) -> None:
    settings = RadioSettings(
        carrier_hz=LO, sample_rate_hz=2e6, tx_attenuation_db=0.0, rx_gain_db=0.0
    )
    with pytest.raises(ValueError, match=r"0\.\.2"):
        transmit_power(wrong, settings=settings, reference=PowerReference())
    with pytest.raises(ValueError, match="no samples"):
        mean_square(np.zeros(0, dtype=np.complex128))


def test_a_unit_without_entries_is_derived_and_never_measured() -> None:
    reference = UnitCalibration("A1").reference(sample_rate_hz=RATE_HZ, carrier_hz=LO)
    assert reference == PowerReference(
        tx_full_scale_dbm=typical_tx_dbm(RATE_HZ), rx_std_db=3.0, rx_source=Source.DERIVED
    )
    assert reference.source is reference.receiver_source is Source.DERIVED
    assert reference.std_db == reference.receiver_std_db == 3.0


def test_one_side_measured_does_not_make_the_other_measured() -> None:
    reference = UnitCalibration("A1", (SENT,)).reference(
        sample_rate_hz=RATE_HZ, carrier_hz=LO, temperature_c=40.0
    )
    assert (reference.source, reference.receiver_source) == (Source.MEASURED, Source.DERIVED)
    assert (reference.std_db, reference.receiver_std_db) == (0.3, 3.0)
    assert (reference.tx_full_scale_dbm, reference.rx_full_scale_dbm) == (6.4, 0.0)


def test_the_typical_power_follows_the_filter_of_the_sample_rate() -> None:
    unit = UnitCalibration("A1")
    at = {
        rate: unit.reference(carrier_hz=LO, sample_rate_hz=rate).tx_full_scale_dbm
        for rate in (2e6, 20e6, 20.1e6, 40e6)
    }
    # pyadi-iio's taps sum to 2; interpolating by 4 that is half the amplitude
    assert at == pytest.approx({2e6: 0.98, 20e6: 0.98, 20.1e6: 7.0, 40e6: 7.0}, abs=0.01)


def test_an_entry_holds_on_its_side_of_the_filters_step_only() -> None:
    fast = msgspec.structs.replace(SENT, sample_rate_hz=30e6, full_scale_dbm=7.5)
    unit = UnitCalibration("A1", (SENT,)).with_entry(fast)
    assert len(unit.entries) == 2  # neither replaces the other
    at = {
        rate: unit.reference(carrier_hz=LO, sample_rate_hz=rate, temperature_c=40.0)
        for rate in (1e6, 20e6, 25e6)
    }
    assert [each.tx_full_scale_dbm for each in at.values()] == [6.4, 6.4, 7.5]
    slow_only = UnitCalibration("A1", (SENT,)).reference(carrier_hz=LO, sample_rate_hz=25e6)
    assert (slow_only.tx_full_scale_dbm, slow_only.source) == (7.0, Source.DERIVED)


def test_uncertainty_grows_away_from_the_entry_until_it_says_nothing() -> None:
    unit = UnitCalibration("A1", (SENT,))

    def std(carrier_hz: float, temperature_c: float | None) -> float:
        return unit.reference(
            sample_rate_hz=RATE_HZ, carrier_hz=carrier_hz, temperature_c=temperature_c
        ).std_db

    assert std(LO, 40.0) == 0.3
    assert std(LO + 50e6, 40.0) == pytest.approx(math.hypot(0.3, 0.5))
    assert std(LO - 50e6, 60.0) == pytest.approx(math.hypot(0.3, 0.5, 0.4))
    assert std(LO, None) == pytest.approx(math.hypot(0.3, 0.02 * 40 / math.sqrt(12)))
    for carrier, temperature in ((LO + 1.01 * REACH_HZ, 40.0), (LO, 40.0 + 1.01 * REACH_K)):
        far = unit.reference(sample_rate_hz=RATE_HZ, carrier_hz=carrier, temperature_c=temperature)
        assert (far.source, far.std_db, far.tx_full_scale_dbm) == (
            Source.DERIVED,
            3.0,
            typical_tx_dbm(RATE_HZ),
        )


def test_the_entry_that_is_least_uncertain_there_counts() -> None:
    hot = LevelEntry(
        serial="A1",
        path="transmit",
        carrier_hz=LO,
        full_scale_dbm=5.8,
        std_db=0.3,
        temperature_c=65.0,
    )
    unit = UnitCalibration("A1").with_entry(SENT).with_entry(hot)
    assert (
        unit.reference(sample_rate_hz=RATE_HZ, carrier_hz=LO, temperature_c=45.0).tx_full_scale_dbm
        == 6.4
    )
    assert (
        unit.reference(sample_rate_hz=RATE_HZ, carrier_hz=LO, temperature_c=60.0).tx_full_scale_dbm
        == 5.8
    )
    with pytest.raises(ValueError, match="'B2': the entry is of 'A1'"):
        UnitCalibration("B2").with_entry(SENT)


def test_a_pair_and_one_known_level_give_the_other(store: CalibrationStore) -> None:
    known = store.with_entry(PAIR).with_entry(SENT)
    heard = known.unit("B2").reference(sample_rate_hz=RATE_HZ, carrier_hz=LO, temperature_c=35.0)
    assert heard.rx_full_scale_dbm == pytest.approx(6.4 - 7.5)
    assert heard.receiver_std_db == pytest.approx(0.5)
    assert (heard.source, heard.receiver_source) == (Source.DERIVED, Source.MEASURED)
    receive = LevelEntry(
        serial="B2",
        path="receive",
        carrier_hz=LO,
        full_scale_dbm=-1.0,
        std_db=0.3,
        temperature_c=35.0,
    )
    sent = store.with_entry(PAIR).with_entry(receive).unit("A1")
    assert sent.reference(
        sample_rate_hz=RATE_HZ, carrier_hz=LO, temperature_c=40.0
    ).tx_full_scale_dbm == pytest.approx(6.5)
    assert store.with_entry(PAIR).unit("B2").entries == ()


def test_a_path_takes_what_is_least_uncertain(store: CalibrationStore) -> None:
    def path(known: CalibrationStore) -> tuple[float, float, Source]:
        got = known.pair(
            "A1", "B2", sample_rate_hz=RATE_HZ, carrier_hz=LO, transmitter_c=40.0, receiver_c=35.0
        )
        return got.difference_db, got.std_db, got.source

    assert path(store) == (typical_tx_dbm(RATE_HZ), pytest.approx(3 * math.sqrt(2)), Source.DERIVED)
    assert path(store.with_entry(SENT))[2] is Source.DERIVED
    assert path(store.with_entry(PAIR)) == (7.5, 0.4, Source.MEASURED)
    # Deduced through the pair it would count the transmitter's uncertainty twice.
    assert path(store.with_entry(PAIR).with_entry(SENT)) == (7.5, 0.4, Source.MEASURED)
    turned = store.with_entry(PAIR).pair("B2", "A1", sample_rate_hz=RATE_HZ, carrier_hz=LO)
    assert turned.source is Source.DERIVED


def test_what_was_saved_is_loaded(store: CalibrationStore) -> None:
    full = store.with_entry(SENT).with_entry(PAIR)
    full.save()
    assert CalibrationStore.load(store.path) == full
    assert [item.name for item in store.path.parent.iterdir()] == ["calibration.toml"]
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o644


def test_a_new_entry_replaces_the_old_one_of_its_temperature(store: CalibrationStore) -> None:
    again = LevelEntry(
        serial="A1",
        path="transmit",
        carrier_hz=LO,
        full_scale_dbm=6.6,
        std_db=0.2,
        temperature_c=43.0,
    )
    assert store.with_entry(SENT).with_entry(again).levels == (again,)
    warm = LevelEntry(
        serial="A1",
        path="transmit",
        carrier_hz=LO,
        full_scale_dbm=6.1,
        std_db=0.2,
        temperature_c=60.0,
    )
    assert store.with_entry(SENT).with_entry(warm).levels == (SENT, warm)
    assert store.with_entry(PAIR).with_entry(PAIR).pairs == (PAIR,)


def test_the_default_file_is_where_xdg_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_path() == tmp_path / "siftmoe" / "calibration.toml"
    assert CalibrationStore.load() == CalibrationStore(path=default_path())
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_path() == tmp_path / ".config" / "siftmoe" / "calibration.toml"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version = 2", "Invalid enum value 2"),
        ("levels = []\nversion = 1", "unknown field `levels`"),
        ("version = 1\n[[level]]\nserial = 'A1'", "missing required field"),
        ("version = 1\n[[level", "calibrate again"),
        (
            "version = 1\n[[level]]\nserial = 'A1'\npath = 'transmit'\ncarrier_hz = 2.4e9\n"
            "full_scale_dbm = 6400.0\nstd_db = 0.1",
            r"<= 60.*full_scale_dbm",
        ),
        (
            "version = 1\n[[level]]\nserial = 'A1'\npath = 'transmit'\ncarrier_hz = 2.4\n"
            "full_scale_dbm = 6.4\nstd_db = 0.1",
            r">= 1000000.*carrier_hz",
        ),
    ],
)
def test_a_file_that_is_wrong_is_named_with_the_place(
    store: CalibrationStore, text: str, expected: str
) -> None:
    store.path.parent.mkdir()
    store.path.write_text(text)
    with pytest.raises(CalibrationError, match=rf"calibration\.toml': .*{expected}"):
        CalibrationStore.load(store.path)


def test_what_cannot_be_stored_leaves_the_file_as_it_was(store: CalibrationStore) -> None:
    store.with_entry(SENT).save()
    before = store.path.read_bytes()
    wrong = LevelEntry(serial="A 1", path="transmit", carrier_hz=LO, full_scale_dbm=6.4, std_db=0.3)
    with pytest.raises(CalibrationError, match=r"not stored, .*serial"):
        store.with_entry(wrong).save()
    assert store.path.read_bytes() == before
    blocked = CalibrationStore(path=store.path / "below" / "calibration.toml")
    with pytest.raises(CalibrationError, match="cannot be written"):
        blocked.save()
    with pytest.raises(CalibrationError, match="cannot be read"):
        CalibrationStore.load(store.path.parent)
