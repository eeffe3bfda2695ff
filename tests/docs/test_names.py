"""Files that the documentation names exist, and pages that the code names."""

from __future__ import annotations

import re
from pathlib import PurePath

import pytest
from blocks import ROOT, pages

#: A file of ours as text names it: in code marks, or by its folder.
_FILE = re.compile(r"(?<![\w/.*-])((?:[a-z_]+/)*(?:test_)?[a-z_0-9]+\.py)\b")
_PAGE = re.compile(r"\bdocs/[\w/-]+\.(?:md|json)\b")
#: Files that a page lets its reader write.
FOREIGN = ("confident.py",)


#: Where our Python lies.
FOLDERS = ("agent", "coordinator", "models", "radio", "tools", "tests", "benchmarks", "examples")
SOURCES = [
    path.relative_to(ROOT)
    for folder in (*FOLDERS, "docs")
    for path in (ROOT / folder).rglob("*.py")
] + [path.relative_to(ROOT) for path in (ROOT / "src" / "siftmoe").glob("*.py")]


def _exists(name: str) -> bool:
    """Whether a file has this path, or one that ends so."""
    parts = PurePath(name).parts
    return any(path.parts[-len(parts) :] == parts for path in SOURCES)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_files_that_a_page_names_exist(page):
    named = set(_FILE.findall(page.read_text(encoding="utf-8"))) - set(FOREIGN)
    assert not {name for name in named if not _exists(name)}


def test_pages_that_code_names_exist():
    missing = {
        (str(path), page)
        for path in SOURCES
        for page in _PAGE.findall((ROOT / path).read_text(encoding="utf-8"))
        if not (ROOT / page).exists()
    }
    assert not missing


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_modules_that_a_page_runs_exist(page):
    named = re.findall(r"python -m ((?:benchmarks|siftmoe)[\w.]*\w)", page.read_text("utf-8"))
    for module in named:
        path = ROOT.joinpath(*module.removeprefix("siftmoe.").split("."))
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


def test_every_function_of_the_table_of_equations_is_where_it_says():
    table = (ROOT / "docs" / "explanation" / "theory.md").read_text(encoding="utf-8")
    table = table[table.index("## Equations and functions") : table.index("## 0. Notation")]
    found = re.findall(r"`([\w/]+\.py)`: ((?:`[\w.()=]+`(?:, )?)+)", table)
    assert len(found) > 15
    for file, names in found:
        (path,) = (p for p in SOURCES if p.as_posix().endswith(file))
        text = (ROOT / path).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)", names):
            assert re.search(rf"^(?:class|def) {name}\b", text, re.M), f"{file}: {name}"
