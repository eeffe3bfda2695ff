"""Pages read the same on the site and in the repository: blank lines that the site needs."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from blocks import pages

_ITEM = re.compile(r" *(?:[*-]|\d+\.) ")
_FENCE = re.compile(r"^( *)```.*?^\1```$", re.M | re.S)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_lists_and_formulas_stand_apart(page):
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for before, line in pairwise(text.splitlines()):
        follows_text = before.strip() and not before.startswith((" ", "|", "#"))
        if _ITEM.match(line) and follows_text:
            assert _ITEM.match(before), f"no blank line before the list: {line[:60]}"
        if line.startswith("$$") or (before.startswith("$$") and before.endswith("$$")):
            assert not (before.strip() and line.strip()), f"no blank line at: {line[:60]}"
