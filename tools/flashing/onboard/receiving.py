"""Stores the files that a workstation sends for a release.

The stream on standard input is a line of JSON per file, {"name", "offset", "num_bytes"}, followed
by that many bytes. A blob is written to SHA256.part from its offset; what arrived stays when the
connection breaks, and the next transfer continues there.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, BinaryIO, Final

from siftmoe.tools.flashing.onboard.errors import BoardError
from siftmoe.tools.flashing.onboard.releases import Board

_WINDOW: Final = 1 << 18
_LINE: Final = 4096
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_RELEASE: Final = re.compile(r"[0-9a-f]{16}")
_MANIFEST: Final = ("release.json", "release.json.sig")


def receive(board: Board, release: str, source: BinaryIO) -> dict[str, Any]:
    """Store every file of the stream; returns the number of bytes of blobs that arrived.

    Raises
    ------
    BoardError
        If the stream is not one of a workstation, ends early, or the disk is full.
    """
    if not _RELEASE.fullmatch(release):
        raise BoardError(f"{release!r} is no name of a release")
    folder = board.incoming / release
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    received = 0
    while line := source.readline(_LINE):
        head = json.loads(line)
        path = _path(board, folder, head["name"])
        _store(path, source, offset=head["offset"], num_bytes=head["num_bytes"])
        received += 0 if head["name"] in _MANIFEST else head["num_bytes"]
    return {"num_bytes": received}


def _path(board: Board, folder: Path, name: str) -> Path:
    if name in _MANIFEST:
        return folder / name
    if not _DIGEST.fullmatch(name):
        raise BoardError(f"{name!r} is no file of a release")
    return board.blobs / f"{name}.part"


def _store(path: Path, source: BinaryIO, *, offset: int, num_bytes: int) -> None:
    mode = "r+b" if offset and path.exists() else "wb"
    with path.open(mode) as out:
        path.chmod(0o600)
        out.seek(offset)
        out.truncate()
        left = num_bytes
        while left:
            window = source.read(min(_WINDOW, left))
            if not window:
                raise BoardError("the transfer ended early; flash again, it continues there")
            out.write(window)
            left -= len(window)
