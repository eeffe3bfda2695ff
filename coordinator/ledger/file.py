"""The ledger's file: opening, transactions, and errors that name the file and free space."""

from __future__ import annotations

import re
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any, Final

from siftmoe.coordinator.errors import LedgerError

if TYPE_CHECKING:
    import threading
    from collections.abc import Container
    from pathlib import Path

_ATTEMPT: Final = re.compile(r" \(attempt \d+\)$")

#: Time limit of a commit while a reader in another process holds the file.
BUSY_TIMEOUT_S: Final = 5.0


class Transaction:
    """Atomic write by one thread at a time; SQLite's errors become a LedgerError."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: threading.RLock) -> None:
        self._path = path
        self._connection = connection
        self._lock = lock

    def __enter__(self) -> sqlite3.Connection:
        self._lock.acquire()
        try:
            self._run("BEGIN IMMEDIATE")
        except BaseException:
            self._lock.release()
            raise
        return self._connection

    def __exit__(self, _kind: Any, error: BaseException | None, _traceback: Any) -> None:
        try:
            if error is None:
                self._run("COMMIT")
                return
            self._roll_back()
            if isinstance(error, sqlite3.OperationalError):
                raise cannot_write(self._path, error) from error
        finally:
            self._lock.release()

    def _run(self, statement: str) -> None:
        try:
            self._connection.execute(statement)
        except sqlite3.OperationalError as error:
            self._roll_back()
            raise cannot_write(self._path, error) from error

    def _roll_back(self) -> None:
        # SQLite has rolled back already after some errors, among them a full disk.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def connect(path: Path, *, mode: str) -> sqlite3.Connection:
    """Open a file; a LedgerError if it cannot be opened. Mode: "ro", "rw" or "rwc"."""
    try:
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            check_same_thread=False,  # used by one thread at a time, see `Transaction`
            isolation_level=None,  # this module begins and ends transactions itself
        )
    except sqlite3.Error as error:
        raise LedgerError(
            f"ledger {str(path)!r} cannot be opened: {error}; does its folder exist?"
        ) from error


def cannot_write(path: Path, error: sqlite3.Error) -> LedgerError:
    """Make the error for a file that cannot be written, with the reason and the free space."""
    try:
        space = f"{shutil.disk_usage(path.parent).free} bytes are free there"
    except OSError as reason:
        space = f"its folder cannot be reached ({reason})"
    return LedgerError(
        f"ledger {str(path)!r} cannot be written: {error}; {space}. What was booked before is "
        f"kept; make space and resume"
    )


def check_version(path: Path, version: int, *, newest: int, oldest: int) -> None:
    """Raise LedgerError if a file's tables are newer or older than these versions."""
    if not oldest <= version <= newest:
        known = f"{oldest} to {newest}" if oldest < newest else str(newest)
        raise LedgerError(
            f"ledger {str(path)!r} is of version {version}, this siftmoe "
            f"{'reads' if oldest < newest else 'writes'} {known}; use the siftmoe that wrote it, "
            f"or another folder"
        )


def attempt_label(label: str, taken: Container[str]) -> str:
    """Label for an earlier attempt of a run that is repeated."""
    number = 1
    while (found := f"{label} (attempt {number})") in taken:
        number += 1
    return found


def attempt_of(label: str) -> str | None:
    """Label of the run of which this was an earlier attempt; None if it was none."""
    return _ATTEMPT.sub("", label) if _ATTEMPT.search(label) else None
