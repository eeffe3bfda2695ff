"""The joule's parts: by use, by owner, by source; and ledgers of before they were booked."""

from __future__ import annotations

import math
import sqlite3
from typing import TYPE_CHECKING

import pytest
from ledger_rows import burst, step

from siftmoe.coordinator.errors import LedgerError
from siftmoe.coordinator.ledger.rows import SoundingRow, TransmissionRow
from siftmoe.coordinator.ledger.store import Ledger
from siftmoe.coordinator.ledger.summary import Owner, Use
from siftmoe.radio.channel.link import Source

if TYPE_CHECKING:
    from pathlib import Path

PILOT = SoundingRow(
    time_s=0.0,
    agent="a0",
    direction="up",
    tx_power_w=1.0,
    tx_power_std_w=0.1,
    power_source=Source.DERIVED,
    airtime_s=1e-3,
    airtime_source=Source.MEASURED,
    energy_j=0.5,
    energy_std_j=0.25,
    carrier_hz=2.4e9,
    detected=False,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite"
    ends = {"circuit_tx_j": 3.0, "circuit_rx_j": 5.0}
    with Ledger.create(path) as ledger:
        up = {"energy_j": 1.0, "energy_std_j": 0.1, "control_bits": 96.0, "control_j": 0.25}
        down = {"energy_j": 2.0, "energy_std_j": 0.4, "control_bits": 72.0, "control_j": 0.5}
        for agent in ("a0", "a1"):
            ledger.add(burst(0, agent=agent, **up, **ends))
            ledger.add(burst(0, agent=agent, direction="down", **down, **ends))
        ledger.commit(step(0))
        ledger.record(PILOT)
    return path


def test_the_parts_add_up_to_the_whole(path: Path) -> None:
    with Ledger.open(path) as ledger:
        summary = ledger.summary()
    by_use = {use: summary.joule(use=use).value for use in Use}
    assert by_use == {
        Use.UPLINK: 1.5,
        Use.ANSWERS: 3.0,
        Use.CONTROL: 1.5,
        Use.PILOTS: 0.5,
        Use.CIRCUIT_TX: 12.0,
        Use.CIRCUIT_RX: 20.0,
    }
    assert summary.joule().value == sum(by_use.values()) == 38.5
    assert summary.joule(radiated=True).value == 6.5
    assert summary.joule(radiated=True).value == pytest.approx(summary.radio_energy().value)
    assert summary.radiated_share == pytest.approx(6.5 / 38.5)
    assert summary.joule_per_token().value == 38.5 / 2


def test_the_users_battery_is_apart_from_the_helpers(path: Path) -> None:
    with Ledger.open(path) as ledger:
        summary = ledger.summary()
    # sending up, receiving answers, pilots up: 2 (1 + 3 + 5) + 0.5
    assert summary.joule(owner=Owner.USER).value == 18.5
    assert summary.joule(owner=Owner.HELPERS).value == 20.0


def test_sources_and_uncertainties_are_kept(path: Path) -> None:
    with Ledger.open(path) as ledger:
        summary = ledger.summary()
    assert summary.joule(source=Source.DERIVED).value == 0.5
    assert summary.joule(radiated=False).std == 0.0
    assert summary.joule(use=Use.CONTROL).std == pytest.approx(2 * (0.025 + 0.1))
    assert summary.joule(radiated=True).std == pytest.approx(summary.radio_energy().std)


def test_pilots_belong_to_no_kind_of_step(path: Path) -> None:
    with Ledger.open(path) as ledger:
        assert ledger.summary(kind="decode").joule(use=Use.PILOTS).value == 0.0
        assert math.isnan(ledger.summary(kind="prefill").radiated_share)


def test_control_is_not_more_than_the_burst(path: Path) -> None:
    with Ledger.resume(path) as ledger:
        ledger.add(burst(1, energy_j=1.0, control_j=1.5))
        with pytest.raises(ValueError, match="cannot be booked"):
            ledger.commit(step(1))


def made_old(path: Path) -> None:
    """Take the columns of version 6 away."""
    new = ("control_bits", "control_j", "circuit_tx_j", "circuit_rx_j")
    connection = sqlite3.connect(path)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(transmission)")]
    kept = ", ".join(name for name in columns if name not in new)
    connection.executescript(
        f"CREATE TABLE old AS SELECT {kept} FROM transmission; DROP TABLE transmission; "
        f"ALTER TABLE old RENAME TO transmission; PRAGMA user_version = 5;"
    )
    connection.close()


def test_a_ledger_of_before_is_read_and_has_counted_neither(path: Path) -> None:
    made_old(path)
    with Ledger.open(path) as ledger:
        summary = ledger.summary()
        rows = list(ledger.rows(TransmissionRow))
    assert len(rows) == 4
    assert {(row.control_bits, row.circuit_tx_j) for row in rows} == {(0.0, 0.0)}
    assert summary.joule().value == summary.joule(radiated=True).value == 6.5
    with pytest.raises(LedgerError, match="is of version 5, this siftmoe writes 6"):
        Ledger.resume(path)
