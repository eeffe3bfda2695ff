"""A killed writer and a full disk: whole steps are kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import ledger_rows
import pytest
from ledger_rows import book, step

from siftmoe.coordinator.errors import LedgerError
from siftmoe.coordinator.ledger.store import Ledger, SelectionRow, StepRow, TransmissionRow

#: Where `ledger_rows` stands.
TESTS = str(Path(ledger_rows.__file__).parent)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_a_killed_writer_leaves_whole_steps(path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        from ledger_rows import burst, selection, step
        from siftmoe.coordinator.ledger.store import Ledger
        ledger = Ledger.create(Path(sys.argv[1]))
        for number in range(1_000_000):
            for layer in range(4):
                ledger.add(selection(number, layer=layer))
                for agent in ("a0", "a1", "a2"):
                    ledger.add(burst(number, layer=layer, agent=agent))
            ledger.commit(step(number))
            print(number, flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path), TESTS]
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
        from ledger_rows import book
        from siftmoe.coordinator.errors import LedgerError
        from siftmoe.coordinator.ledger.store import Ledger, TransmissionRow
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
        TESTS,
    ]
    command = program if disk == "limit" else [*NAMESPACE, *program, *MOUNT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    message, last = done.stdout.strip().split("\n")
    reason = "disk I/O error" if disk == "limit" else "database or disk is full"
    assert f"cannot be written: {reason}" in message
    assert "bytes are free there" in message
    assert last == "kept"
