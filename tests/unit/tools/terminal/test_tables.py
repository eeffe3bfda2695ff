"""Tables at several widths: nothing is cut, whatever the width."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siftmoe.tools.terminal.console import PlainConsole
from siftmoe.tools.terminal.tables import fold, table, two_lines, without_constants

WORDS = st.text("abcé=.±0123456789", min_size=1, max_size=14)
CELLS = st.lists(WORDS, max_size=3).map(" ".join)


def printed(width: int, *arguments: object, **options: object) -> list[str]:
    console = PlainConsole(width=width)
    with console.capture() as captured:
        console.print(table(*arguments, **options))  # type: ignore[arg-type]
    return captured.get().splitlines()


@given(
    st.integers(2, 7).flatmap(
        lambda columns: st.tuples(
            st.lists(WORDS, min_size=columns, max_size=columns),
            st.lists(st.lists(CELLS, min_size=columns, max_size=columns), min_size=1, max_size=4),
        )
    ),
    st.integers(40, 160),
)
def test_every_table_fits_and_every_figure_is_whole(
    content: tuple[list[str], list[list[str]]], width: int
) -> None:
    header, rows = content
    lines = printed(width, header, rows)
    assert all(len(line) <= width for line in lines)
    assert "…" not in "".join(lines)
    for word in [word for row in rows for cell in row[1:] for word in cell.split()]:
        assert any(word in line for line in lines)


def test_names_are_folded_after_punctuation_before_anything_else() -> None:
    header, rows = ["policy", "a", "b"], [["siftmoe:bits=auto:loss=0.025", "1" * 20, "2" * 20]]
    assert printed(80, header, rows)[2].split() == [rows[0][0], "1" * 20, "2" * 20]
    lines = printed(60, header, rows)
    assert [line.split()[0] for line in lines[2:]] == ["siftmoe:", "bits=auto:", "loss=0.025"]


def test_uncertainties_stand_below_before_rows_are_stacked() -> None:
    header, rows = ["layer", "norm", "response"], [["0", "1.234567 ± 0.01", "0.0042 ± 0.00012"]]
    assert "1.234567 ± 0.01" in printed(50, header, rows)[2]
    assert [line.split() for line in printed(26, header, rows)[2:]] == [
        ["0", "1.234567", "0.0042"],
        ["±", "0.01", "±", "0.00012"],
    ]


def test_a_row_that_is_too_wide_is_stacked() -> None:
    header, rows = ["agent", "queue", "memory"], [["one", "1" * 25, ""], ["two", "2" * 25, "3" * 9]]
    assert printed(40, header, rows) == [
        "one",
        f"  queue {'1' * 25}",
        "two",
        f"  queue {'2' * 25}",
        f"  memory {'3' * 9}",
    ]


def test_what_is_the_same_in_every_row_goes_into_the_caption() -> None:
    header, rows = ["policy", "bits", "source"], [["a", "16", "modelled"], ["b", "4", "modelled"]]
    assert without_constants(header, rows, ("bits", "source")) == (
        ["policy", "bits"],
        [["a", "16"], ["b", "4"]],
        "source: modelled",
    )


@pytest.mark.parametrize(
    ("cell", "lines"),
    [("1.5 µJ ± 10 %", "1.5 µJ\n± 10 %"), ("3.3 (2 to 6)", "3.3\n(2 to 6)"), ("-", "-")],
)
def test_an_uncertainty_stands_below_its_value(cell: str, lines: str) -> None:
    assert two_lines(cell) == lines


def test_folding_keeps_every_character() -> None:
    assert fold("ab cd:ef", 5) == "ab\ncd:ef"
    assert fold("abcdefgh", 3) == "abc\ndef\ngh"
    assert fold("two\nlines", 80) == "two\nlines"
