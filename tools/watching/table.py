"""Tables of agents: one for a single look, and one that is refreshed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.live import Live
from rich.text import Text

from siftmoe.tools.terminal.console import stdout_console
from siftmoe.tools.terminal.tables import table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from siftmoe.tools.terminal.tables import FittedTable
    from siftmoe.tools.watching.agents import Row

_GIGA: Final = 1e9
_MEGA: Final = 1e6
#: Suffix of ONNX Runtime's provider names, which is not shown.
_PROVIDER: Final = "ExecutionProvider"

_AGENT: Final = ("agent", "state", "release", "experts", "provider")
_FIGURES: Final = ("queue", "memory", "free", "hottest", "power")
_BOARD: Final = ("board", "before", "service")


def once(rows: Sequence[Row]) -> FittedTable:
    """Return the table of one look, with columns for boards if any was asked over SSH."""
    with_boards = any(row["board"] for row in rows)
    header = [*_AGENT, *_FIGURES, *(_BOARD if with_boards else ()), ""]
    lines = []
    for row in rows:
        board = row["board"] or {}
        about = (board.get("current"), board.get("previous"), board.get("service", {}).get("state"))
        cells = [text or "" for text in about] if with_boards else []
        lines.append([*_agent(row), *_figures(row), *cells, _remark(row, board.get("error"))])
    return table(header, lines, foldable=(0, -1))


class Screen:
    """A table that each look replaces; in a file or a pipe the tables follow each other."""

    def __init__(self) -> None:
        self._console = stdout_console()
        self._live = Live(console=self._console, auto_refresh=False)

    def show(self, rows: Sequence[Row]) -> None:
        """Show the rows of a look."""
        header = [*_AGENT, *_FIGURES, "rows/s", ""]
        lines = [
            [*_agent(row), *_figures(row), _number(row["rows_per_s"], "{:,.0f}"), _remark(row)]
            for row in rows
        ]
        if self._console.is_terminal:
            self._live.update(table(header, lines, foldable=(0, -1)), refresh=True)
        else:
            self._console.print(table(header, lines, foldable=(0, -1)))

    def __enter__(self) -> Screen:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._live.stop()


def _agent(row: Row) -> list[str | Text]:
    colour = "red" if row["state"] != "ready" else "yellow" if row["hot"] else "green"
    state = f"{row['state']}, hot" if row["hot"] else row["state"]
    return [
        row["agent"],
        Text(state, style=colour),
        row["release"] or row["version"],
        str(row["experts"]) if row["provider"] else "",
        row["provider"].removesuffix(_PROVIDER),
    ]


def _figures(row: Row) -> list[str]:
    return [
        _number(row["queue"], "{:d}"),
        _number(row["memory_bytes"], "{:.0f} MB", _MEGA),
        _number(row["memory_free_bytes"], "{:.1f} GB", _GIGA),
        _number(row["temperature_c"], "{:.0f} °C"),
        _number(row["power_w"], "{:.2f} W"),
    ]


def _number(value: float | None, form: str, unit: float | None = None) -> str:
    if value is None:
        return ""
    return form.format(value if unit is None else value / unit)


def _remark(row: Row, board_error: str | None = None) -> str:
    """Return what is wrong with an agent or its board; empty for a ready agent."""
    if row["state"] == "ready":
        silent = ["does not tell how it is"] if row["stats"] is None else []
        parts = [*row["hot"], *silent]
    else:
        parts = [row["reason"]]
    return "; ".join([*parts, *([board_error] if board_error else [])])
