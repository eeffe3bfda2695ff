r"""Base graphs of the LDPC codes of 5G NR and their lifting.

A base graph is a matrix of circulants. Row r, column c with shift s says: check z of row r holds
bit :math:`(z + s) \bmod Z` of column c. Every base graph has eight sets of shifts; the lifting
size Z chooses one of them (3GPP TS 38.212 V17, tables 5.3.2-1 to 5.3.2-3).

The first columns carry information, the next four the core parity, the rest the extension: one
column of degree one for each further row.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]

#: Odd factors of the lifting sizes; the position is the index of the set of shifts.
_FACTORS = (2, 3, 5, 7, 9, 11, 13, 15)
MAX_LIFTING = 384
#: Rows that the four core parity columns solve together.
CORE_ROWS = 4
#: Base graph -> columns of information, rows.
_SHAPES = {1: (22, 46), 2: (10, 42)}


@lru_cache(maxsize=1)
def lifting_sizes() -> tuple[int, ...]:
    """Return the 51 lifting sizes, ascending."""
    return tuple(sorted(_set_of_size()))


@lru_cache(maxsize=1)
def _set_of_size() -> dict[int, int]:
    sizes = {}
    for index, factor in enumerate(_FACTORS):
        size = factor
        while size <= MAX_LIFTING:
            sizes[size] = index
            size *= 2
    return sizes


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LiftedGraph:
    """A base graph at a lifting size; its circulants are sorted by row.

    Parameters
    ----------
    number : int
        Base graph, 1 or 2.
    size : int
        Lifting size Z.
    information : int
        Columns of information: 22 or 10.
    starts : (rows + 1,) int64
        First circulant of each row.
    columns, shifts : (circulants,) int64
    corner : int
        Shift of the first parity column in the sum of the core rows.
    order : (3, 2) int64
        Core rows and the parity columns that they solve, in order.
    """

    number: int
    size: int
    information: int
    starts: IntArray
    columns: IntArray
    shifts: IntArray
    corner: int
    order: IntArray

    @property
    def rows(self) -> int:
        """Rows of the base graph."""
        return len(self.starts) - 1

    @property
    def length(self) -> int:
        """Bits of the mother code, the two punctured columns included."""
        return (self.information + self.rows) * self.size

    def edges(self, row: int) -> tuple[IntArray, IntArray]:
        """Columns and shifts of a row's circulants."""
        part = slice(int(self.starts[row]), int(self.starts[row + 1]))
        return self.columns[part], self.shifts[part]


@lru_cache(maxsize=102)
def lifted(number: int, size: int) -> LiftedGraph:
    """Return a base graph at a lifting size.

    Raises
    ------
    ValueError
        If there is no such graph or size.
    """
    if number not in _SHAPES:
        raise ValueError(f"ldpc: there are base graphs 1 and 2, not {number}")
    if size not in _set_of_size():
        raise ValueError(f"ldpc: {size} is no lifting size of 5G NR (2 to {MAX_LIFTING})")
    information, rows = _SHAPES[number]
    table = _table(number)
    shifts = table[:, 2 + _set_of_size()[size]] % size
    starts = np.searchsorted(table[:, 0], np.arange(rows + 1))
    return LiftedGraph(
        number=number,
        size=size,
        information=information,
        starts=_fixed(starts),
        columns=_fixed(table[:, 1]),
        shifts=_fixed(shifts),
        corner=_corner(table, shifts, information),
        order=_fixed(_order(table, information)),
    )


def _fixed(values: IntArray) -> IntArray:
    return np.ascontiguousarray(values, dtype=np.int64)


@lru_cache(maxsize=2)
def _table(number: int) -> IntArray:
    """Row, column and eight shifts of every circulant, (circulants, 10)."""
    source = resources.files(__package__).joinpath("base_graphs.csv").read_text(encoding="utf-8")
    lines = [line for line in source.splitlines() if not line.startswith("#")]
    rows = [[int(value) for value in row] for row in list(csv.reader(lines))[1:]]
    table = np.array([row[1:] for row in rows if row[0] == number], dtype=np.int64)
    return np.asarray(table[np.lexsort((table[:, 1], table[:, 0]))])


def _corner(table: IntArray, shifts: IntArray, information: int) -> int:
    """Shift that is left of the first parity column when the core rows are added.

    It stands in three core rows, twice with the same shift, which cancels.
    """
    first = (table[:, 0] < CORE_ROWS) & (table[:, 1] == information)
    values, counts = np.unique(shifts[first], return_counts=True)
    return int(values[counts % 2 == 1][0])


def _order(table: IntArray, information: int) -> IntArray:
    """Rows in the order in which each has one unknown parity column, and that column."""
    core = [
        {int(c) for c in table[table[:, 0] == row, 1] if c >= information}
        for row in range(CORE_ROWS)
    ]
    known, order = {information}, []
    while len(known) < CORE_ROWS:
        row = next(r for r in range(CORE_ROWS) if len(core[r] - known) == 1)
        (unknown,) = core[row] - known
        order.append((row, unknown))
        known.add(unknown)
    return np.array(order, dtype=np.int64)
