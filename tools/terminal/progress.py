"""Progress bars on stderr."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from siftmoe.tools.terminal.console import stderr_console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr; yields a function that adds a number of finished units."""
    columns = (
        SpinnerColumn(),
        field_column("description"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=stderr_console()) as progress:
        task = progress.add_task(title, total=total)
        yield lambda count: progress.advance(task, count)


def field_column(name: str) -> TextColumn:
    """Return a column that shows a field of a task as plain text."""
    return TextColumn("{task." + name + "}", markup=False)
