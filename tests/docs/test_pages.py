"""Pages of the documentation, followed from top to bottom in a folder of their own."""

from __future__ import annotations

import sys

import pytest
from blocks import ROOT, blocks_of, pages, simple_commands
from reader import BUNDLE, OF_THE_CLONE, Reader

from siftmoe.radio.emulator.config import load_air
from siftmoe.tools.cli import main

#: The pages with something to do.
FOLLOWED = [page for page in pages() if any(block.is_run for block in blocks_of(page))]


def prepares() -> set[str]:
    """Every documented command that makes the bundle which the pages use."""
    return {
        " ".join(words)
        for page in FOLLOWED
        for block in blocks_of(page)
        if block.is_run
        for command in block.commands()
        for words in simple_commands(command)
        if words[:2] == ["siftmoe", "prepare"]
    }


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The bundle that the pages use, made as they say."""
    folder = tmp_path_factory.mktemp("prepared")
    for name in OF_THE_CLONE:
        (folder / name).symlink_to(ROOT / name)
    (command,) = prepares()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(command.split()[1:]) == 0
    return folder / BUNDLE


@pytest.mark.parametrize("page", FOLLOWED, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page, bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    reader = Reader(tmp_path, bundle)
    try:
        for block in blocks_of(page):
            reader.follow(block)
    finally:
        reader.leave()
    assert "Traceback" not in capsys.readouterr().err


def test_the_documented_air_is_one(tmp_path):
    (block,) = (b for page in pages() for b in blocks_of(page) if b.value == "air.toml")
    path = tmp_path / "air.toml"
    path.write_text(block.body, encoding="utf-8")
    assert [device.name for device in load_air(path).device] == ["user", "helper"]
