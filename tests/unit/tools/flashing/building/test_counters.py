"""Numbers of releases: one for each change of a board's content, and none for a dry run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from siftmoe.tools.flashing.building.counters import COUNTERS_FILE, Counters
from siftmoe.tools.flashing.errors import ReleaseError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_change_has_a_number_of_its_own(tmp_path: Path) -> None:
    numbers = [Counters(tmp_path).number("left", content) for content in ("a", "a", "b", "b", "a")]
    assert numbers == [1, 1, 2, 2, 3]
    assert Counters(tmp_path).number("right", "a") == 1


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    Counters(tmp_path).number("left", "a")
    dry = Counters(tmp_path, keep=False)
    assert [dry.number("left", "b"), dry.number("left", "c")] == [2, 2]
    assert Counters(tmp_path).number("left", "a") == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"left": 3}', '{"left": {"counter": 3}}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / COUNTERS_FILE).write_text(text)
    with pytest.raises(ReleaseError, match="is damaged; remove it, and flash once with --allow"):
        Counters(tmp_path).number("left", "a")
