"""Fenced blocks of the documentation, and what a page says of each.

A comment right above a block says what becomes of it:

- ``<!-- not run: REASON -->``: its commands are parsed, not run;
- ``<!-- file: NAME -->``: it is written to a file of that name in the page's folder;
- ``<!-- from: PATH -->``: it stands in that file of the repository, which other tests run.

Without one a block is run, or, if it is TOML, read as a part of a testbed file.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Words of a shell before a command.
_KEYWORDS = ("do", "done", "sudo", "then")

_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>not run|file|from): (?P<value>[^\n]+?) -->\n)?"
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    language: str
    body: str
    mark: str = ""
    value: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_run(self) -> bool:
        return not self.mark and self.language in ("sh", "console", "python")

    def commands(self) -> list[str]:
        """Shell commands, each a string, without the answers of a console."""
        if self.language not in ("sh", "console"):
            return []
        text = self.body.replace("\\\n", "")
        if self.language == "console":
            text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))
        found = [""]
        for line in text.splitlines():
            found[-1] += line
            if _is_complete(found[-1]):
                found.append("")
            else:
                found[-1] += "\n"
        return [command.strip() for command in found if command.partition("#")[0].strip()]


def _is_complete(command: str) -> bool:
    """Whether every quote is closed."""
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return True


def pages() -> list[Path]:
    """Every page that is written by hand."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(page: Path) -> list[Block]:
    """Blocks of a page in their order."""
    return blocks_in(page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix())


def blocks_in(text: str, page: str) -> list[Block]:
    """Blocks of a page's text."""
    return [
        Block(
            page=page,
            line=text.count("\n", 0, found.start("language")) + 1,
            language=found["language"],
            body=found["body"],
            mark=found["mark"] or "",
            value=found["value"] or "",
        )
        for found in _BLOCK.finditer(text)
    ]


def simple_commands(command: str) -> list[list[str]]:
    """Words of every simple command of a line, as in ``for x in 1 2; do A; done; B | C &``."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set(";&|"):
            found.append([])
        elif found[-1] or ("=" not in word.partition(":")[0] and word not in _KEYWORDS):
            found[-1].append(word)
    return [words for words in found if words]


def siftmoe_arguments(command: str) -> list[list[str]]:
    """Arguments of every call of ``siftmoe`` on a line."""
    return [words[1:] for words in simple_commands(command) if words[0] == "siftmoe"]
