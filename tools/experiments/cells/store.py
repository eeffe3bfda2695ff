"""Stores a study: its configuration, and one line per finished cell.

A line is appended when a cell ends, so that a study can be stopped at any point and continued. A
folder with another configuration is refused, because its cells are not comparable.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from siftmoe.tools.experiments.cells.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CONFIG_FILE = "config.json"
CELLS_FILE = "cells.jsonl"


class Store:
    """Finished cells of a study.

    Parameters
    ----------
    folder : Path
        Made if it does not exist.
    config : mapping
        Everything that determines the results; JSON values.

    Raises
    ------
    ValueError
        If the folder holds a study of another configuration, or something else.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.folder = folder
        self._cells = folder / CELLS_FILE
        folder.mkdir(parents=True, exist_ok=True)
        _check(folder, config)
        path = folder / CONFIG_FILE
        if not path.exists():
            path.write_text(json.dumps(dict(config), indent=1) + "\n", encoding="utf-8")
        self._outcomes = {outcome.cell.key(): outcome for outcome in self._read()}

    def get(self, key: str) -> Outcome | None:
        """Return a finished cell's outcome."""
        return self._outcomes.get(key)

    def add(self, outcome: Outcome) -> None:
        """Store a finished cell."""
        with self._cells.open("ab") as stream:
            stream.write(msgspec.json.encode(outcome) + b"\n")
        self._outcomes[outcome.cell.key()] = outcome

    def _read(self) -> list[Outcome]:
        """Read the finished cells; an incomplete last line of a killed process is removed."""
        if not self._cells.exists():
            return []
        content = self._cells.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            self._cells.write_bytes(whole)
        try:
            return [msgspec.json.decode(line, type=Outcome) for line in whole.splitlines()]
        except msgspec.MsgspecError as error:
            raise ValueError(
                f"{str(self._cells)!r} is damaged or of another version: {error}; "
                f"name another --out"
            ) from error


def _check(folder: Path, config: Mapping[str, Any]) -> None:
    path = folder / CONFIG_FILE
    if not path.exists():
        if any(folder.iterdir()):
            raise ValueError(f"--out {str(folder)!r} is not empty and no study; name another")
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}; name another --out") from error
    wanted = json.loads(json.dumps(dict(config)))
    differing = [
        f"{name} was {found.get(name)!r}, now {wanted.get(name)!r}"
        for name in sorted(set(found) | set(wanted))
        if found.get(name) != wanted.get(name)
    ]
    if differing:
        raise ValueError(
            f"--out {str(folder)!r} holds a study of another configuration ({'; '.join(differing)})"
            f"; ask for the same to go on with it, or name another --out"
        )
