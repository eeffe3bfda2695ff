"""Names of models and folders of bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from siftmoe.tools.bundles import cache_dir, open_model

if TYPE_CHECKING:
    from collections.abc import Callable


def test_the_cache_is_where_the_desktop_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_dir() == Path("/somewhere/siftmoe/bundles")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_dir() == Path("/home/me/.cache/siftmoe/bundles")


def test_a_bundles_folder(family_bundle: Callable[[str], Path]) -> None:
    folder = family_bundle("mixtral")
    assert open_model(str(folder)).root == folder


def test_a_checkpoint_is_told_how_to_become_a_bundle(
    family_checkpoint: Callable[[str], Path],
) -> None:
    folder = family_checkpoint("mixtral")
    with pytest.raises(ValueError, match=rf"siftmoe prepare {folder} --out mixtral\.bundle"):
        open_model(str(folder))


@pytest.mark.parametrize("name", ["mixtral-8x7b", ".", "/nowhere"])
def test_anything_else_is_told_what_there_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"no model '{name}': name upcycled, scratch"):
        open_model(name)
