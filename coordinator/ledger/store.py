"""Writes a run's steps, selections, transmissions and faults to one SQLite file.

Rows stay in memory until their step ends and are then written in one transaction, so a file holds
whole steps only: if a run is killed at any point, its ledger is complete up to the last token. An
aborted step is booked as aborted; of a step that did not end nothing is kept. The file
is in WAL mode with ``synchronous=NORMAL``: a killed process loses nothing that was committed; a
power cut may lose the last steps, but leaves whole ones.

Soundings and board energies belong to no step and are written at once: a pilot exchange uses its
energy whether or not the step around it ends.

One file holds several consecutive runs, for example one per compared policy.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from siftmoe.coordinator.errors import LedgerError
from siftmoe.coordinator.ledger.file import (
    Transaction,
    attempt_label,
    cannot_write,
    check_version,
    connect,
)
from siftmoe.coordinator.ledger.reading import LedgerReader
from siftmoe.coordinator.ledger.rows import (
    BoardRow,
    FaultRow,
    SelectionRow,
    SoundingRow,
    StepRow,
    TransmissionRow,
)
from siftmoe.coordinator.ledger.schema import (
    AS_IF_NEW,
    OLDEST_READABLE,
    SCHEMA,
    SCHEMA_VERSION,
    insert_statement,
    to_values,
)
from siftmoe.coordinator.ledger.summary import Summary

if TYPE_CHECKING:
    from types import TracebackType

    from siftmoe.coordinator.ledger.rows import BesideRow, StepPart

__all__ = [
    "BoardRow",
    "FaultRow",
    "Ledger",
    "SelectionRow",
    "SoundingRow",
    "StepRow",
    "Summary",
    "TransmissionRow",
]

_log = logging.getLogger(__name__)


class Ledger(LedgerReader):
    """A ledger file; made by `create`, `resume` or `open`. One thread at a time adds rows."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, writable: bool) -> None:
        if writable:
            connection.execute("PRAGMA synchronous = NORMAL")
        super().__init__(path, connection)
        self._writable = writable
        self._pending: list[StepPart] = []

    @classmethod
    def create(cls, path: str | Path, config: Any = None, *, label: str = "run") -> Ledger:
        """Start a ledger with its first run.

        Parameters
        ----------
        path : str or Path
            A file that does not exist.
        config : mapping, struct or None
            Settings of the run; kept as JSON.
        label : str
            Name of the run in tables.

        Raises
        ------
        LedgerError
            If the file exists or cannot be written.
        """
        path = Path(path)
        if path.exists():
            raise LedgerError(
                f"ledger {str(path)!r} exists; resume it, or choose another run directory"
            )
        connection = connect(path, mode="rwc")
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(
                f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT"
            )
            ledger = cls(path, connection, writable=True)
            ledger.start_run(label, config)
        except sqlite3.Error as error:
            connection.close()
            raise cannot_write(path, error) from error
        except BaseException:
            connection.close()
            raise
        return ledger

    @classmethod
    def resume(cls, path: str | Path) -> Ledger:
        """Open a ledger to continue writing; errors as `open`."""
        return cls._existing(Path(path), mode="rw")

    @classmethod
    def open(cls, path: str | Path) -> Ledger:
        """Open a ledger for reading; its writer may be running or have been killed.

        Raises
        ------
        LedgerError
            If it is missing, no ledger, or of another version.
        """
        return cls._existing(Path(path), mode="ro")

    @classmethod
    def _existing(cls, path: Path, *, mode: str) -> Ledger:
        if not path.is_file():
            raise LedgerError(f"ledger {str(path)!r} does not exist; name a run directory's ledger")
        connection = connect(path, mode=mode)
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            oldest = SCHEMA_VERSION if mode == "rw" else OLDEST_READABLE
            check_version(path, version, newest=SCHEMA_VERSION, oldest=oldest)
            if version < SCHEMA_VERSION:
                connection.execute(AS_IF_NEW)
            return cls(path, connection, writable=mode == "rw")
        except sqlite3.Error as error:
            connection.close()
            raise LedgerError(f"ledger {str(path)!r} cannot be read: {error}") from error
        except LedgerError:
            connection.close()
            raise

    def start_run(self, label: str, config: Any = None, *, again: bool = False) -> int:
        """Begin another run in the same file and return its number; later rows belong to it.

        An existing run of that label is an error, unless ``again``: then it keeps its rows under a
        label with the number of the attempt, see `siftmoe.coordinator.ledger.file.attempt_of`.
        """
        if self._pending:
            raise ValueError(f"ledger: {len(self._pending)} rows belong to a step that has no end")
        labels = self.labels()
        if label in labels and not again:
            raise ValueError(f"ledger: a run is already called {label!r}")
        text = msgspec.json.encode(config if config is not None else {}).decode()
        with self._transaction() as connection:
            if label in labels:
                aside = (attempt_label(label, labels), labels[label])
                connection.execute("UPDATE run SET label = ? WHERE run = ?", aside)
            connection.execute("INSERT INTO run (label, config) VALUES (?, ?)", (label, text))
        self._run = int(self._all("SELECT max(run) FROM run")[0][0])
        return self._run

    def add(self, row: StepPart) -> None:
        """Book a row of the running step; it is written when the step is committed."""
        if not self._writable:
            raise ValueError(f"ledger {str(self.path)!r} is open for reading only")
        self._pending.append(row)

    def discard(self) -> int:
        """Drop the rows of the running step, and return their number."""
        count = len(self._pending)
        self._pending.clear()
        return count

    def commit(self, step: StepRow) -> None:
        """End a step: write it and all its rows, or nothing of them.

        Raises
        ------
        LedgerError
            If the disk is full or the file cannot be written. Earlier steps are kept, and so are
            this step's rows in memory: once there is space, the same call may be made again.
        ValueError
            If a row is of another step, the step is booked already, or a value is impossible.
        """
        strange = {row.step for row in self._pending} - {step.step}
        if strange:
            raise ValueError(f"ledger: step {step.step} ends, but rows are of steps {strange}")
        try:
            with self._transaction() as connection:
                connection.execute(insert_statement(StepRow), to_values(step, self._run))
                for kind in (SelectionRow, TransmissionRow, FaultRow):
                    rows = [to_values(row, self._run) for row in self._pending if type(row) is kind]
                    connection.executemany(insert_statement(kind), rows)
        except sqlite3.IntegrityError as error:
            raise ValueError(f"ledger: step {step.step} cannot be booked: {error}") from error
        self._pending.clear()

    def record(self, *rows: BesideRow) -> None:
        """Write rows that belong to no step, all of them or none; errors as `commit`."""
        try:
            with self._transaction() as connection:
                for row in rows:
                    connection.execute(insert_statement(type(row)), to_values(row, self._run))
        except sqlite3.IntegrityError as error:
            raise ValueError(f"ledger: a row cannot be booked: {error}") from error

    def close(self) -> None:
        """Close the file; a writer leaves it as one file. Rows of an unended step are dropped."""
        if self._connection is None:
            return
        if dropped := self.discard():
            _log.info("ledger %s: %d rows of a step that broke off are dropped", self.path, dropped)
        if self._writable:
            with suppress(sqlite3.Error):  # if a reader holds it, the WAL file remains
                self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.close()
        self._connection = None

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _transaction(self) -> Transaction:
        if not self._writable:
            raise ValueError(f"ledger {str(self.path)!r} is open for reading only")
        return Transaction(self.path, self._open_connection(), self._lock)
