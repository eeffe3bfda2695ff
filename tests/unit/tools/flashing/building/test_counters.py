"""Numbers of releases: one for each change that a board serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from siftmoe.tools.flashing.building.counters import COUNTERS_FILE, Counters
from siftmoe.tools.flashing.errors import ReleaseError

if TYPE_CHECKING:
    from pathlib import Path


def flash(folder: Path, board: str, content: str) -> int:
    counter = Counters(folder).number(board, content)
    Counters(folder).record(board, content, counter)
    return counter


def test_a_change_has_a_number_of_its_own(tmp_path: Path) -> None:
    numbers = [flash(tmp_path, "left", content) for content in ("a", "a", "b", "b", "a")]
    assert numbers == [1, 1, 2, 2, 3]
    assert flash(tmp_path, "right", "a") == 1


def test_what_was_not_recorded_takes_no_number(tmp_path: Path) -> None:
    flash(tmp_path, "left", "a")
    counters = Counters(tmp_path)
    assert [counters.number("left", content) for content in ("b", "c", "a")] == [2, 2, 1]


@pytest.mark.parametrize("text", ["{", "[]", '{"left": 3}', '{"left": {"counter": 3}}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / COUNTERS_FILE).write_text(text)
    with pytest.raises(ReleaseError, match="is damaged; remove it, and flash once with --allow"):
        Counters(tmp_path).number("left", "a")
