"""Reads a ledger: its runs, their rows and configurations, and sums over them."""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING, Any, overload

import msgspec

from siftmoe.coordinator.ledger.rows import (
    BoardRow,
    FaultRow,
    SelectionRow,
    SoundingRow,
    StepRow,
    TransmissionRow,
)
from siftmoe.coordinator.ledger.schema import from_values, select_statement
from siftmoe.coordinator.ledger.spending import Spending, step_spending
from siftmoe.coordinator.ledger.summary import Summary, summarise

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from siftmoe.coordinator.ledger.rows import StepKind


class LedgerReader:
    """Queries of an open ledger file; the current run is the last one in the file."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = connection
        self._run = int(self._all("SELECT coalesce(max(run), 0) FROM run")[0][0])

    @property
    def run(self) -> int:
        """Number of the current run: of the last one in the file."""
        return self._run

    @property
    def last_step(self) -> int | None:
        """Last step of the current run that is booked."""
        step = self._all("SELECT max(step) FROM step WHERE run = ?", self._run)[0][0]
        return None if step is None else int(step)

    def labels(self) -> dict[str, int]:
        """Return the runs in the file: number by label, in order."""
        return {
            label: int(run) for label, run in self._all("SELECT label, run FROM run ORDER BY run")
        }

    def config(self, run: int | None = None) -> Any:
        """Return the configuration of a run (default: the current one)."""
        rows = self._all("SELECT config FROM run WHERE run = ?", self._which(run))
        return msgspec.json.decode(rows[0][0])

    @overload
    def rows(self, kind: type[StepRow], *, run: int | None = None) -> Iterator[StepRow]: ...
    @overload
    def rows(
        self, kind: type[SelectionRow], *, run: int | None = None
    ) -> Iterator[SelectionRow]: ...
    @overload
    def rows(
        self, kind: type[TransmissionRow], *, run: int | None = None
    ) -> Iterator[TransmissionRow]: ...
    @overload
    def rows(self, kind: type[FaultRow], *, run: int | None = None) -> Iterator[FaultRow]: ...
    @overload
    def rows(self, kind: type[SoundingRow], *, run: int | None = None) -> Iterator[SoundingRow]: ...
    @overload
    def rows(self, kind: type[BoardRow], *, run: int | None = None) -> Iterator[BoardRow]: ...
    def rows(self, kind: Any, *, run: int | None = None) -> Iterator[Any]:
        """Read a run's rows (default: the current one's), in the order they were booked."""
        cursor = self._open_connection().execute(select_statement(kind), (self._which(run),))
        return (from_values(kind, values) for values in cursor)

    def summary(self, run: int | None = None, *, kind: StepKind | None = None) -> Summary:
        """Sum over a run (default: the current one), of all its steps or of one kind of step."""
        with self._lock:
            return summarise(self._open_connection(), run=self._which(run), kind=kind)

    def spending(self, step: int) -> Spending:
        """Read what one booked step of the current run decided and radiated."""
        with self._lock:
            return step_spending(self._open_connection(), self._run, step)

    def _which(self, run: int | None) -> int:
        run = self._run if run is None else run
        if run not in self.labels().values():
            raise ValueError(f"ledger {str(self.path)!r} has no run {run}; it has {self.labels()}")
        return run

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise ValueError(f"ledger {str(self.path)!r} is closed")
        return self._connection

    def _all(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._open_connection().execute(statement, values).fetchall()
