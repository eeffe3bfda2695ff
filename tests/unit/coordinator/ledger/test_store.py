from __future__ import annotations

import dataclasses
import math
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from siftmoe.coordinator.errors import LedgerError
from siftmoe.coordinator.ledger.rows import weakest
from siftmoe.coordinator.ledger.schema import TABLES
from siftmoe.coordinator.ledger.store import Ledger, SelectionRow, StepRow, TransmissionRow
from siftmoe.radio.channel.link import ChannelOrigin, Source


def step(number: int, **changes: Any) -> StepRow:
    row = StepRow(
        step=number,
        kind="decode",
        time_s=0.5 * number,
        tokens=2,
        latency_s=0.4,
        airtime_s=0.2,
        solve_s=0.01,
        queue_s=0.02,
        compute_s=0.05,
        backbone_s=0.1,
        wall_s=0.3,
    )
    return dataclasses.replace(row, **changes)


def selection(number: int, **changes: Any) -> SelectionRow:
    row = SelectionRow(
        step=number,
        layer=0,
        kept=3,
        replaced=1,
        skipped=0,
        predicted_energy_j=0.5,
        lower_bound_j=0.4,
        status="feasible",
        deviation_bound_mean=0.01,
        deviation_bound_max=0.02,
        measured_deviation=None,
        solve_s=0.001,
    )
    return dataclasses.replace(row, **changes)


def burst(number: int, **changes: Any) -> TransmissionRow:
    row = TransmissionRow(
        time_s=0.5 * number,
        step=number,
        layer=0,
        agent="a0",
        direction="up",
        tokens=2,
        payload_bits=4096.0,
        tx_power_w=0.1,
        tx_power_std_w=0.01,
        power_source=Source.MODELLED,
        airtime_s=0.1,
        airtime_source=Source.MODELLED,
        energy_j=0.01,
        energy_std_j=0.001,
        rate_bps=40960.0,
        channel_gain=1e-6,
        channel_age_s=0.02,
        channel_origin=ChannelOrigin.SIMULATED,
    )
    return dataclasses.replace(row, **changes)


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


def test_an_aborted_steps_energy_stands_beside_the_sums(path: Path) -> None:
    with Ledger.create(path) as ledger:
        for number, aborted in enumerate((False, True, True)):
            ledger.add(burst(number, missed=number))
            if number < 2:
                ledger.add(burst(number, direction="down"))
            ledger.commit(step(number, aborted=aborted))
        total = ledger.summary()
        assert [row.aborted for row in ledger.rows(StepRow)] == [False, True, True]
    assert (total.steps, total.tokens) == (1, 2)
    assert total.energy().value == pytest.approx(0.02)
    assert total.aborted == 2
    assert total.aborted_energy_j == pytest.approx(0.03)


def test_outage_is_the_share_of_slots_that_were_sent_and_lost(path: Path) -> None:
    with Ledger.create(path) as ledger:
        ledger.add(selection(0, kept=2, replaced=1, skipped=5, lost=1))
        ledger.add(burst(0, tokens=2, missed=1))
        ledger.commit(step(0))
        total = ledger.summary()
        assert (total.lost, total.outage) == (1, 0.25)
        assert total.transmissions[0].missed == 1
        ledger.add(burst(1, tokens=2, missed=3))
        with pytest.raises(ValueError, match="cannot be booked"):
            ledger.commit(step(1))
        ledger.discard()


def test_a_killed_writer_leaves_whole_steps(path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        from test_store import Ledger, burst, selection, step
        ledger = Ledger.create(Path(sys.argv[1]))
        for number in range(1_000_000):
            for layer in range(4):
                ledger.add(selection(number, layer=layer))
                for agent in ("a0", "a1", "a2"):
                    ledger.add(burst(number, layer=layer, agent=agent))
            ledger.commit(step(number))
            print(number, flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) >= 50:
                break
        writer.send_signal(signal.SIGKILL)
        acknowledged = max([int(line), *map(int, writer.stdout.read().split("\n")[:-1])])
    with Ledger.open(path) as ledger:
        assert ledger.last_step is not None
        steps = range(ledger.last_step + 1)
        assert len(steps) >= acknowledged + 1
        assert [row.step for row in ledger.rows(StepRow)] == list(steps)
        assert [r.step for r in ledger.rows(SelectionRow)] == [n for n in steps for _ in range(4)]
        assert [r.step for r in ledger.rows(TransmissionRow)] == [
            n for n in steps for _ in range(12)
        ]
    with Ledger.resume(path) as ledger:
        ledger.commit(step(len(steps)))
        assert ledger.last_step == len(steps)


def full_disk(ledger: Ledger) -> None:
    """Make SQLite itself run out of space, as it does on a full disk."""
    connection = ledger._open_connection()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")


def book(ledger: Ledger, number: int, *, bursts: int = 300) -> None:
    for _ in range(bursts):
        ledger.add(burst(number))
    ledger.commit(step(number))


def test_a_full_ledger_keeps_what_was_booked_and_goes_on_once_there_is_space(path: Path) -> None:
    ledger = Ledger.create(path)
    book(ledger, 0)
    full_disk(ledger)
    with pytest.raises(
        LedgerError, match=r"ledger\.sqlite' cannot be written: .*full.*bytes are free"
    ):
        book(ledger, 1)
    with Ledger.open(path) as reader:
        assert reader.last_step == 0
        assert len(list(reader.rows(TransmissionRow))) == 300
    ledger._open_connection().execute("PRAGMA max_page_count = 100000")
    ledger.commit(step(1))
    assert len(list(ledger.rows(TransmissionRow))) == 600
    ledger.close()


NAMESPACE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
MOUNT = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs"]


def disks() -> list[str]:
    """A limit on file sizes can be had everywhere, a small disk only where one may mount."""
    tried = subprocess.run([*NAMESPACE, *MOUNT, "/mnt"], capture_output=True, check=False)
    return ["limit", "disk"] if tried.returncode == 0 else ["limit"]


@pytest.mark.parametrize("disk", disks())
def test_a_full_disk_is_reported_and_what_was_booked_is_kept(tmp_path: Path, disk: str) -> None:
    code = """
        import resource, subprocess, sys
        from pathlib import Path
        folder, tests, *mount = sys.argv[1:]
        sys.path.insert(0, tests)
        from test_store import Ledger, LedgerError, TransmissionRow, book
        if mount:
            subprocess.run([*mount, folder], check=True)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        path = Path(folder, "ledger.sqlite")
        ledger = Ledger.create(path)
        booked = 0
        try:
            for number in range(1000):
                book(ledger, number, bursts=50)
                booked = number + 1
        except LedgerError as error:
            print(error)
        with Ledger.open(path) as reader:
            rows = list(reader.rows(TransmissionRow))
            assert 0 < booked < 1000, booked
            assert (reader.last_step, len(rows)) == (booked - 1, 50 * booked), (booked, len(rows))
        ledger.close()
        with Ledger.open(path) as reader:
            assert reader.summary().transmissions[0].bursts == 50 * booked
        print("kept")
    """
    program = [
        sys.executable,
        "-c",
        textwrap.dedent(code),
        str(tmp_path),
        str(Path(__file__).parent),
    ]
    command = program if disk == "limit" else [*NAMESPACE, *program, *MOUNT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    message, last = done.stdout.strip().split("\n")
    reason = "disk I/O error" if disk == "limit" else "database or disk is full"
    assert f"cannot be written: {reason}" in message
    assert "bytes are free there" in message
    assert last == "kept"


def test_sums_are_kept_apart_by_source_and_direction(path: Path) -> None:
    measured = {"power_source": Source.MEASURED, "airtime_source": Source.MEASURED}
    with Ledger.create(path) as ledger:
        ledger.add(burst(0, **measured))
        ledger.add(burst(0, agent="a1", **measured))
        ledger.add(burst(0, direction="down", **measured))
        ledger.add(burst(0, direction="down", agent="a1", **measured))
        ledger.add(burst(0, direction="down", agent="a1", **measured))
        ledger.add(burst(0, power_source=Source.MEASURED, energy_j=5.0, energy_std_j=0.0))
        ledger.commit(step(0))
        summary = ledger.summary()
    assert set(summary.sources) == {Source.MEASURED, Source.MODELLED}
    assert summary.energy(source=Source.MODELLED).value == 5.0
    assert summary.energy(source=Source.DERIVED).value == 0.0
    up = summary.energy(source=Source.MEASURED, direction="up")
    assert (up.value, up.std) == (pytest.approx(0.02), pytest.approx(0.002))  # one transmitter
    down = summary.energy(source=Source.MEASURED, direction="down")
    assert down.value == pytest.approx(0.03)
    assert down.std == pytest.approx(math.hypot(0.001, 0.002))  # two transmitters
    both = summary.energy(source=Source.MEASURED)
    assert both.std == pytest.approx(math.hypot(up.std, down.std))
    assert summary.energy_per_token(source=Source.MEASURED).value == pytest.approx(0.05 / 2)
    assert summary.airtime_per_token_s == pytest.approx(0.6 / 2)


def test_a_product_is_no_better_than_its_worse_factor() -> None:
    assert weakest(Source.MEASURED, Source.MEASURED) is Source.MEASURED
    assert weakest(Source.MEASURED, Source.DERIVED) is Source.DERIVED
    assert weakest(Source.MODELLED, Source.DERIVED) is Source.MODELLED
    assert burst(0, power_source=Source.DERIVED).energy_source is Source.MODELLED


def test_latency_is_split_and_counts_are_summed(path: Path) -> None:
    with Ledger.create(path) as ledger:
        for number in range(3):
            kind = "prefill" if number == 0 else "decode"
            ledger.add(selection(number))
            ledger.add(
                selection(number, layer=1, skipped=4, status="infeasible", excluded="a3: hot")
            )
            ledger.commit(step(number, kind=kind, tokens=8 if number == 0 else 2))
        everything, decode = ledger.summary(), ledger.summary(kind="decode")
    assert (everything.steps, everything.tokens) == (3, 12)
    assert (decode.steps, decode.tokens) == (2, 4)
    per_token = decode.latency_per_token
    assert per_token.total_s == pytest.approx(0.8 / 4)
    assert per_token.airtime_s == pytest.approx(0.4 / 4)
    assert per_token.rest_s == pytest.approx((0.8 - 2 * 0.38) / 4)
    assert (decode.kept, decode.replaced, decode.skipped) == (12, 4, 8)
    assert decode.shares["skipped"] == pytest.approx(8 / 24)
    assert everything.status == {"feasible": 3, "infeasible": 3}
    assert everything.excluded == {"a3: hot": 3}
    assert everything.predicted_energy_j == pytest.approx(3.0)


def test_an_empty_run_has_no_averages(path: Path) -> None:
    with Ledger.create(path) as ledger:
        summary = ledger.summary()
        assert ledger.last_step is None
    assert summary.sources == ()
    assert summary.energy().value == 0.0
    assert math.isnan(summary.energy_per_token().value)
    assert math.isnan(summary.latency_per_token.total_s)
    assert math.isnan(summary.shares["kept"])


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
    with pytest.raises(LedgerError, match="is of version 99, this siftmoe reads 4"):
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
