"""Tables of agents: one for a single look, and one that is refreshed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.live import Live
from rich.text import Text

from siftmoe.tools.terminal.console import stdout_console
from siftmoe.tools.terminal.tables import table, without_constants

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from rich.console import RenderableType

    from siftmoe.tools.watching.agents import Row

_GIGA: Final = 1e9
_MEGA: Final = 1e6
#: Suffix of ONNX Runtime's provider names, which is not shown.
_PROVIDER: Final = "ExecutionProvider"

#: Digits of a release's name in a table; --json has all.
_NAME: Final = 8

_AGENT: Final = ("agent", "state", "release", "experts", "provider")
_FIGURES: Final = ("queue", "memory", "free", "hottest", "power")
_RATE: Final = "rows/s"
_FOLDED_IF_CONSTANT: Final = ("release", "provider")
_BOARD: Final = ("board", "release", "before", "service")


def once(rows: Sequence[Row]) -> Group:
    """Return the table of one look, one of the boards if any was asked over SSH, and remarks."""
    boards = [row for row in rows if row["board"]]
    parts: list[RenderableType] = list(_agents(rows))
    if boards:
        parts += ["", table(_BOARD, [_on_board(row) for row in boards])]
    return Group(*parts, *_remarks(rows))


class Screen:
    """A table that each look replaces; in a file or a pipe the tables follow each other."""

    def __init__(self) -> None:
        self._console = stdout_console()
        self._live = Live(console=self._console, auto_refresh=False)

    def show(self, rows: Sequence[Row]) -> None:
        """Show the rows of a look."""
        shown = Group(*_agents(rows, rates=True), *_remarks(rows))
        if self._console.is_terminal:
            self._live.update(shown, refresh=True)
        else:
            self._console.print(shown)

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


def _agents(rows: Sequence[Row], *, rates: bool = False) -> Iterator[RenderableType]:
    """Yield the table of agents, and a caption of what is the same for all."""
    header = [*_AGENT, *_FIGURES, *((_RATE,) if rates else ())]
    cells: list[list[str]] = []
    for row in rows:
        rate = [_number(row["rows_per_s"], "{:,.0f}")] if rates else []
        cells.append([*_agent(row), *_figures(row), *rate])
    header, cells, caption = without_constants(header, cells, _FOLDED_IF_CONSTANT)
    state = header.index("state")
    yield table(
        header,
        [
            [*line[:state], Text(line[state], style=_colour(row)), *line[state + 1 :]]
            for row, line in zip(rows, cells, strict=True)
        ],
    )
    if caption:
        yield caption


def _agent(row: Row) -> list[str]:
    return [
        row["agent"],
        f"{row['state']}, hot" if row["hot"] else row["state"],
        row["release"][:_NAME] or row["version"],
        str(row["experts"]) if row["provider"] else "",
        row["provider"].removesuffix(_PROVIDER),
    ]


def _colour(row: Row) -> str:
    return "red" if row["state"] != "ready" else "yellow" if row["hot"] else "green"


def _on_board(row: Row) -> list[str]:
    said = row["board"]
    names = [(said.get(link) or "")[:_NAME] for link in ("current", "previous")]
    return [row["agent"], *names, said.get("service", {}).get("state", "")]


def _remarks(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a line for everything that is wrong with an agent or its board."""
    for row in rows:
        board = row.get("board") or {}
        if said := _remark(row, board.get("error")):
            yield f"{row['agent']}: {said}"


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
