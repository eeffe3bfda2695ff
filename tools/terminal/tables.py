"""Tables that fit the width of their console: no figure and no heading is ever cut.

A table that is too wide first folds its names and remarks; if that is not enough, its rows are
stacked: the name on a line, and below it every heading with its figure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.table import Table
from rich.text import Text

from siftmoe.tools.terminal.text import readable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType

    Cell = str | Text

#: Columns between two columns of a table.
_GAP: Final = 2
#: Least width of a column that is folded.
_LEAST: Final = 12
_INDENT: Final = 2
_PAIR_GAP: Final = 3
#: Where a name may be broken: after these, and after white space.
_BREAKS: Final = re.compile(r"[^\s:,;/]*[:,;/]?\s*")


@dataclass(frozen=True, slots=True)
class FittedTable:
    """Header and rows; cells may have several lines.

    Parameters
    ----------
    header : sequence of str
    rows : sequence of sequence of str or Text
    foldable : collection of int
        Columns of names and sentences; all others hold figures, which stay whole.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    foldable: Collection[int]

    def __rich_console__(
        self, _console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """Yield the first layout that fits: as it is, uncertainties below, stacked."""
        below = [[two_lines(c) if isinstance(c, str) else c for c in row] for row in self.rows]
        for candidate in (self, FittedTable(self.header, below, self.foldable)):
            widths = candidate._widths(options.max_width)
            if widths is not None:
                yield candidate._side_by_side(widths)
                return
        yield from self._stacked(options.max_width)

    def _widths(self, available: int) -> list[int] | None:
        """Return the columns' widths; None if the table does not fit."""
        cells = [self._longest_cell(index) for index in range(len(self.header))]
        widths = [max(w, cell_len(h)) for w, h in zip(cells, self.header, strict=True)]
        if _total(widths) <= available:
            return widths
        widths = [max(w, _longest_word(h)) for w, h in zip(cells, self.header, strict=True)]
        over = _total(widths) - available
        for index in sorted(self.foldable, key=lambda index: -widths[index]):
            least = min(widths[index], max(_LEAST, _longest_word(self.header[index])))
            given = min(max(0, over), widths[index] - least)
            widths[index], over = widths[index] - given, over - given
        return widths if over <= 0 else None

    def _longest_cell(self, index: int) -> int:
        lines = [line for row in self.rows for line in _plain(row[index]).split("\n")]
        return max(map(cell_len, lines), default=0)

    def _side_by_side(self, widths: Sequence[int]) -> Table:
        table = Table(
            show_edge=False,
            header_style="bold",
            pad_edge=False,
            box=box.SIMPLE_HEAD,
            padding=(0, _GAP - 1, 0, 0),
        )
        for index, name in enumerate(self.header):
            left = index == 0 or index in self.foldable
            table.add_column(
                Text(name), justify="left" if left else "right", width=widths[index], no_wrap=False
            )
        for row in self.rows:
            table.add_row(*[_folded(cell, width) for cell, width in zip(row, widths, strict=True)])
        return table

    def _stacked(self, width: int) -> Iterator[Text]:
        for row in self.rows:
            yield Text(fold(_plain(row[0]), width), style="bold")
            pairs = [f"{name} {' '.join(_plain(cell).split())}" for name, cell in self._named(row)]
            yield from map(Text, _filled(pairs, width))

    def _named(self, row: Sequence[Cell]) -> list[tuple[str, Cell]]:
        """Return the headings and cells after the first that are not empty."""
        return [(h, cell) for h, cell in zip(self.header[1:], row[1:], strict=True) if _plain(cell)]


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    foldable: Collection[int] = (0,),
) -> FittedTable:
    """Lay out a table whose first column has names and whose others have figures.

    Parameters
    ----------
    header, rows
        As for `FittedTable`.
    foldable : collection of int
        Columns of names and sentences, which may be folded; negative numbers count from the end.
    """
    return FittedTable(header, rows, {index % len(header) for index in foldable})


def without_constants(
    header: Sequence[str], rows: Sequence[Sequence[str]], names: Collection[str]
) -> tuple[list[str], list[list[str]], str]:
    """Move columns that have the same cell in every row into a sentence.

    Parameters
    ----------
    header, rows
        Of a table.
    names : collection of str
        Headings of the columns that may be moved.

    Returns
    -------
    header, rows, caption
        The caption is "heading: cell; heading: cell", empty if every column varies.
    """
    cells = {name: {row[index] for row in rows} for index, name in enumerate(header)}
    moved = [name for name in header if name in names and len(cells[name]) == 1]
    kept = [index for index, name in enumerate(header) if name not in moved]
    caption = "; ".join(f"{name}: {next(iter(cells[name]))}" for name in moved)
    return [header[i] for i in kept], [[row[i] for i in kept] for row in rows], caption


def two_lines(cell: str) -> str:
    """Put a figure's uncertainty, or its range, below the figure."""
    return cell.replace(" ± ", "\n± ").replace(" (", "\n(")


def fold(text: str, width: int) -> str:
    """Break a text into lines of at most a width, after punctuation where there is any."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for part in _BREAKS.findall(paragraph):
            piece = part
            if line and cell_len((line + piece).rstrip()) > width:
                lines.append(line.rstrip())
                line = ""
            while cell_len(piece.rstrip()) > width:
                head = set_cell_size(piece, width).rstrip()
                lines.append(head)
                piece = piece[len(head) :]
            line += piece
        lines.append(line.rstrip())
    return "\n".join(lines)


def _filled(pairs: Sequence[str], width: int) -> Iterator[str]:
    """Fill indented lines with pairs of heading and figure; a long pair has lines of its own."""
    line = ""
    for pair in (pair.strip() for pair in pairs):
        longer = f"{line}{' ' * (_PAIR_GAP if line else _INDENT)}{pair}"
        if cell_len(longer) <= width:
            line = longer
            continue
        if line:
            yield line
        first, *others = fold(pair, width - 2 * _INDENT).split("\n")
        line = " " * _INDENT + first
        for other in others:
            yield line
            line = " " * 2 * _INDENT + other
    if line:
        yield line


def _folded(cell: Cell, width: int) -> Text:
    text = fold(_plain(cell), width)
    return Text(text, style=cell.style if isinstance(cell, Text) else "")


def _plain(cell: Cell) -> str:
    return readable(cell.plain if isinstance(cell, Text) else cell)


def _longest_word(heading: str) -> int:
    return max([cell_len(word) for word in heading.split()], default=0)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)
