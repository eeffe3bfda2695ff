"""Progress bars of a rollout: one per board, with its phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.progress import BarColumn, DownloadColumn, Progress, TimeElapsedColumn

from siftmoe.tools.terminal.console import stderr_console
from siftmoe.tools.terminal.progress import field_column

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.progress import TaskID


class Bars:
    """A progress bar per board; a `siftmoe.tools.flashing.rollout.Report`."""

    def __init__(self, boards: Sequence[str]) -> None:
        self._progress = Progress(
            field_column("description"),
            BarColumn(),
            DownloadColumn(),
            TimeElapsedColumn(),
            field_column("fields[phase]"),
            console=stderr_console(),
            disable=not stderr_console().is_terminal,
        )
        self._tasks: dict[str, TaskID] = {
            name: self._progress.add_task(name, total=None, phase="waits") for name in boards
        }

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def phase(self, board: str, text: str) -> None:
        """Show the phase that a board is in."""
        self._progress.update(self._tasks[board], phase=text)
        if not self._progress.console.is_terminal:
            self._progress.console.print(f"{board}: {text}", soft_wrap=True)

    def expect(self, board: str, num_bytes: int) -> None:
        """Set the number of bytes that will be sent."""
        self._progress.update(self._tasks[board], total=num_bytes)

    def advance(self, board: str, num_bytes: int) -> None:
        """Add bytes that were sent."""
        self._progress.advance(self._tasks[board], num_bytes)
