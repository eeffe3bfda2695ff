"""The reference of rooms: what every folder is for, offers and uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docstrings import to_markdown
from rooms import PACKAGES, ROOT, Room, docstring, floors, uses

if TYPE_CHECKING:
    from pathlib import Path

_HEAD = """# Rooms

Generated from the `__init__` docstrings, the floors in `setup.cfg` and the imports in the files. A
room is a folder, or a file that stands alone, with one subject. A room uses only rooms on lower
floors of its own package, and packages below its own. Rooms on the same floor do not know each
other. `make lint` checks it. [Architecture](../explanation/architecture.md) explains the order.

"""


def page() -> str:
    """Return the page as Markdown."""
    return _HEAD + "\n".join(_package(name) for name in PACKAGES)


def _package(name: str) -> str:
    lines = [f"## {name}\n", docstring(ROOT / name / "__init__.py").partition("\n\n")[0] + "\n"]
    stack = floors(name)
    for number, floor in zip(range(len(stack) - 1, -1, -1), stack, strict=True):
        lines += [_section(room, number) for room in floor]
    return "\n".join(lines)


def _section(room: Room, floor: int) -> str:
    used = uses()[room.name]
    own = [f"`{r.partition('.')[2]}`" for r in used if r.startswith(room.name.partition(".")[0])]
    others = [f"`{r}`" for r in used if not r.startswith(room.name.partition(".")[0])]
    lines = [
        f"### {room.name.replace('__', '&#95;&#95;')}\n",
        f"Floor {floor}. {to_markdown(room.subject)}\n",
    ]
    if room.offers and room.path.is_dir():
        lines.append(to_markdown(room.offers) + "\n")
    lines.append(f"Uses {', '.join(sorted(own) + sorted(others)) or 'nothing else'}.\n")
    if room.path.is_dir():
        lines.append(_files(room))
    return "\n".join(lines)


def _files(room: Room) -> str:
    rows = [
        f"    | `{file.relative_to(room.path).as_posix()}` | {_first_line(file)} |"
        for file in room.files
    ]
    head = [f'??? note "{len(rows)} files"\n', "    | file | subject |", "    |---|---|"]
    return "\n".join([*head, *rows, ""])


def _first_line(file: Path) -> str:
    text = " ".join(docstring(file).partition("\n\n")[0].split())
    return to_markdown(text).replace("|", "\\|")
