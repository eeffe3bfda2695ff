"""The rooms of the five packages: floors from ``setup.cfg``, subjects and imports from the files.

Nothing is imported: files are read as text, so this needs no package of the product.
"""

from __future__ import annotations

import ast
import configparser
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: From the top: a package uses only what stands after it; radio and models do not know each other.
PACKAGES = ("tools", "coordinator", "agent", "models", "radio")


@dataclass(frozen=True)
class Room:
    """A folder or a file on a floor: its subject and what it uses.

    Parameters
    ----------
    name : str
        Dotted, without ``siftmoe.``: ``coordinator.ledger``.
    path : Path
        Folder or file.
    """

    name: str
    path: Path

    @property
    def title(self) -> str:
        """Its last name; a folder ends with a slash."""
        return self.name.rpartition(".")[2] + ("/" if self.path.is_dir() else ".py")

    @property
    def text(self) -> str:
        """Docstring of the room."""
        return docstring(self.path / "__init__.py" if self.path.is_dir() else self.path)

    @property
    def subject(self) -> str:
        """First paragraph of its docstring."""
        return " ".join(self.text.partition("\n\n")[0].split())

    @property
    def offers(self) -> str:
        """What its docstring says after the first paragraph."""
        return self.text.partition("\n\n")[2]

    @property
    def files(self) -> list[Path]:
        """Its Python files, those of rooms inside it included, without ``__init__``."""
        if not self.path.is_dir():
            return [self.path]
        return sorted(p for p in self.path.rglob("*.py") if p.name != "__init__.py")


def docstring(path: Path) -> str:
    """Return a file's docstring."""
    return ast.get_docstring(_tree(path)) or ""


def floors(container: str) -> list[list[Room]]:
    """Return the floors of a package or room from the top, as ``setup.cfg`` names them.

    Raises
    ------
    KeyError
        If no contract has this container.
    """
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    for name in config.sections():
        section = config[name]
        if section.get("containers", "").strip() == f"siftmoe.{container}":
            lines = section["layers"].strip().splitlines()
            return [[_room(container, part) for part in line.split("|")] for line in lines]
    raise KeyError(f"setup.cfg has no contract with the container siftmoe.{container}")


def _room(container: str, name: str) -> Room:
    dotted = f"{container}.{name.strip()}"
    folder = ROOT.joinpath(*dotted.split("."))
    return Room(dotted, folder if folder.is_dir() else folder.with_suffix(".py"))


def all_rooms() -> dict[str, Room]:
    """Return every room of the five packages by its dotted name."""
    return {room.name: room for p in PACKAGES for floor in floors(p) for room in floor}


@cache
def uses() -> dict[str, dict[str, int]]:
    """Return for each room the rooms that it imports, with the number of files that do.

    Imports under ``TYPE_CHECKING`` and inside functions count like all others.
    """
    known = all_rooms()
    found: dict[str, dict[str, int]] = {}
    for room in known.values():
        counts: dict[str, int] = {}
        for file in room.files:
            targets = {_owner(module, known) for module in _imports(file)} - {None, room.name}
            for target in targets:
                counts[str(target)] = counts.get(str(target), 0) + 1
        found[room.name] = counts
    return found


def _imports(file: Path) -> set[str]:
    """Return the modules of siftmoe that a file imports, without ``siftmoe.``."""
    names: set[str] = set()
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.removeprefix("siftmoe.") for name in names if name.startswith("siftmoe.")}


def _owner(module: str, known: dict[str, Room]) -> str | None:
    return next((f for f in (".".join(module.split(".")[:2]),) if f in known), None)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
