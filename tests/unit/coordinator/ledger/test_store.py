from __future__ import annotations

import dataclasses
import math
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ledger_rows import burst, selection, step

from siftmoe.coordinator.errors import LedgerError
from siftmoe.coordinator.ledger.schema import TABLES
from siftmoe.coordinator.ledger.store import Ledger, SelectionRow, StepRow, TransmissionRow


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_rows_come_back_as_they_were_booked(path: Path) -> None:
    rows = [
        selection(0, measured_deviation=0.03, excluded="a3: dead"),
        burst(0),
        burst(0, agent="b"),
    ]
    with Ledger.create(path, {"seed": 1}) as ledger:
        for row in rows:
            ledger.add(row)
        ledger.commit(step(0))
    with Ledger.open(path) as ledger:
        assert list(ledger.rows(StepRow)) == [step(0)]
        assert [*ledger.rows(SelectionRow), *ledger.rows(TransmissionRow)] == rows
        assert ledger.config() == {"seed": 1}
        assert ledger.last_step == 0


def test_numbers_of_numpy_are_booked_and_no_bound_is_nan(path: Path) -> None:
    with Ledger.create(path) as ledger:
        ledger.add(selection(0, kept=np.int64(3), lower_bound_j=math.nan, solve_s=np.float32(0.5)))
        ledger.add(burst(0, tokens=np.int32(2), direction="down"))
        ledger.commit(step(0, tokens=np.int64(2)))
        (read,) = ledger.rows(SelectionRow)
        assert math.isnan(read.lower_bound_j)
        assert read.measured_deviation is None
        assert (read.kept, read.solve_s) == (3, 0.5)
        assert next(ledger.rows(TransmissionRow)).tokens == 2


def test_the_tables_have_the_rows_columns(path: Path) -> None:
    Ledger.create(path).close()
    connection = sqlite3.connect(path)
    for kind, table in TABLES.items():
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        assert columns == ["run", *[field.name for field in dataclasses.fields(kind)]]
    connection.close()


def test_nothing_of_a_step_is_kept_before_it_ends(path: Path) -> None:
    ledger = Ledger.create(path)
    ledger.add(burst(0))
    with Ledger.open(path) as reader:
        assert list(reader.rows(TransmissionRow)) == []
    ledger.commit(step(0))
    ledger.add(burst(1))
    ledger.close()
    with Ledger.open(path) as reader:
        assert [row.step for row in reader.rows(TransmissionRow)] == [0]


def test_a_step_that_broke_off_is_forgotten(path: Path) -> None:
    with Ledger.create(path) as ledger:
        ledger.add(burst(0))
        ledger.add(selection(0))
        assert ledger.discard() == 2
        ledger.add(burst(1))
        ledger.commit(step(1))
        assert [row.step for row in ledger.rows(TransmissionRow)] == [1]


def test_one_file_holds_several_runs(path: Path) -> None:
    with Ledger.create(path, {"policy": "topk"}, label="topk") as ledger:
        first = ledger.run
        ledger.add(burst(0))
        ledger.commit(step(0))
        second = ledger.start_run("siftmoe", {"policy": "siftmoe"})
        ledger.add(burst(0, energy_j=0.5))
        ledger.commit(step(0))
    with Ledger.open(path) as ledger:
        assert ledger.labels() == {"topk": first, "siftmoe": second}
        assert ledger.config(first) == {"policy": "topk"}
        assert ledger.summary(first).energy().value == pytest.approx(0.01)
        assert ledger.summary().energy().value == pytest.approx(0.5)
        assert ledger.summary().label == "siftmoe"
        with pytest.raises(ValueError, match="has no run 7"):
            ledger.summary(7)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (burst(0, direction="sideways"), "direction"),
        (burst(0, energy_j=-1.0), "energy_j"),
        (burst(0, airtime_s=math.nan), "airtime_s"),
        (burst(0, tokens=0), "tokens"),
        (selection(0, kept=-1), "kept"),
    ],
)
def test_an_impossible_value_is_refused_whole(path: Path, row: Any, expected: str) -> None:
    with Ledger.create(path) as ledger:
        ledger.add(burst(0))
        ledger.add(row)
        with pytest.raises(ValueError, match=rf"step 0 cannot be booked: .*{expected}"):
            ledger.commit(step(0))
        assert list(ledger.rows(TransmissionRow)) == []


def test_mistakes_of_the_caller_are_named(path: Path) -> None:
    with Ledger.create(path) as ledger:
        ledger.commit(step(0))
        with pytest.raises(ValueError, match="step 0 cannot be booked"):
            ledger.commit(step(0))
        ledger.add(burst(2))
        with pytest.raises(ValueError, match=r"step 1 ends, but rows are of steps \{2\}"):
            ledger.commit(step(1))
        with pytest.raises(ValueError, match="no end"):
            ledger.start_run("next")
        ledger.discard()
        with pytest.raises(ValueError, match="already called 'run'"):
            ledger.start_run("run")
    with pytest.raises(ValueError, match="is closed"):
        ledger.commit(step(1))
    with Ledger.open(path) as reader, pytest.raises(ValueError, match="reading only"):
        reader.add(burst(1))


def test_a_ledger_never_overwrites(path: Path) -> None:
    Ledger.create(path).close()
    with pytest.raises(LedgerError, match=r"ledger\.sqlite' exists"):
        Ledger.create(path)


def test_what_is_no_ledger_is_refused(tmp_path: Path, path: Path) -> None:
    with pytest.raises(LedgerError, match="does not exist"):
        Ledger.open(path)
    with pytest.raises(LedgerError, match="does its folder exist"):
        Ledger.create(tmp_path / "missing" / "ledger.sqlite")
    path.write_bytes(b"this is a text file, not a database" * 100)
    with pytest.raises(LedgerError, match=r"cannot be read: .*not a database"):
        Ledger.open(path)
    other = tmp_path / "other.sqlite"
    connection = sqlite3.connect(other)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LedgerError, match="is of version 99, this siftmoe reads 5 to 6"):
        Ledger.open(other)


def test_a_closed_ledger_is_one_file_that_can_be_read_where_nothing_can_be_written(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with Ledger.create(folder / "ledger.sqlite") as ledger:
        ledger.commit(step(0))
    assert [item.name for item in folder.iterdir()] == ["ledger.sqlite"]
    folder.chmod(0o500)
    try:
        with Ledger.open(folder / "ledger.sqlite") as ledger:
            assert ledger.last_step == 0
    finally:
        folder.chmod(0o700)
