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
from rich.text import Text

from siftmoe.tools.terminal.console import stderr_console
from siftmoe.tools.terminal.text import readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def progress_bar(
    title: str, total: int | None, *, at_most: bool = False
) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr; yields a function that adds a number of finished units.

    With ``at_most`` the total is an upper limit: a block that ends earlier is complete.
    """
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
        if at_most:
            progress.update(task, total=progress.tasks[task].completed)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on a terminal's stderr that something is going on while the block runs."""
    with stderr_console().status(Text(readable(what))):
        yield


def field_column(name: str) -> TextColumn:
    """Return a column that shows a field of a task as plain text."""
    return TextColumn("{task." + name + "}", markup=False)
