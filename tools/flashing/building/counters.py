"""Numbers the releases of each board, so that a board can refuse an older one.

The numbers stand in ``releases.json`` beside the key that signs releases. Unchanged content keeps
its number, so that an unchanged release is the same release.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from siftmoe.tools.flashing.errors import ReleaseError

if TYPE_CHECKING:
    from pathlib import Path

COUNTERS_FILE = "releases.json"


@dataclass(frozen=True, slots=True)
class Counters:
    """The numbers in a folder of keys."""

    folder: Path

    def number(self, board: str, content: str) -> int:
        """Return the number of a board's release, given a hash of its content.

        It is that of the last release that was recorded if the content is the same, else the next.

        Raises
        ------
        ReleaseError
            If the file is damaged.
        """
        last = self._read().get(board, {"counter": 0, "content": ""})
        return int(last["counter"]) + int(last["content"] != content)

    def record(self, board: str, content: str, counter: int) -> None:
        """Write down the release that a board serves now."""
        known = self._read()
        entry = {"counter": counter, "content": content}
        if known.get(board) != entry:
            self._write({**known, board: entry})

    def _read(self) -> dict[str, Any]:
        path = self.folder / COUNTERS_FILE
        if not path.exists():
            return {}
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            if all({"counter", "content"} <= entry.keys() for entry in known.values()):
                return dict(known)
        except (ValueError, AttributeError):
            pass
        raise ReleaseError(
            f"{str(path)!r} is damaged; remove it, and flash once with --allow-downgrade"
        )

    def _write(self, known: dict[str, Any]) -> None:
        part = self.folder / f"{COUNTERS_FILE}.part"
        part.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(part, self.folder / COUNTERS_FILE)
