"""Consoles, progress bars and tables; only the final table goes to stdout."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: Width of a table in a file or a pipe, which have no terminal width.
_PIPE_WIDTH = 200


def stderr_console() -> Console:
    """Return a console on stderr, for everything but the result."""
    return Console(stderr=True, highlight=False)


def stdout_console() -> Console:
    """Return a console on stdout for the result; wide in a pipe, so that no row is cut."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(width=width, highlight=False)


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr; yields a function that adds a number of finished units."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=stderr_console()) as progress:
        task = progress.add_task(title, total=total)
        yield lambda count: progress.advance(task, count)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Lay out a table whose first column is text and whose others are figures."""
    result = Table(show_edge=False, header_style="bold", pad_edge=False)
    for index, name in enumerate(header):
        result.add_column(name, justify="left" if index == 0 else "right", no_wrap=index == 0)
    for row in rows:
        result.add_row(*row)
    return result
