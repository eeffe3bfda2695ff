"""What is sent to a board for a release: its manifest and the files that the board lacks.

The stream is a line of JSON per file, {"name", "offset", "num_bytes"}, followed by that many bytes;
`siftmoe.tools.flashing.onboard.receiving` reads it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from siftmoe.tools.flashing.building.release import Piece, Release

#: Bytes per write.
_WINDOW: Final = 1 << 18


def missing(release: Release, inventory: Mapping[str, Any]) -> dict[str, Piece]:
    """Return the files of a release that a board lacks or has incomplete."""
    if release.name in inventory["releases"]:
        return {}
    blobs = inventory["blobs"]
    return {
        digest: piece
        for digest, piece in release.blobs.items()
        if blobs.get(digest) != piece.num_bytes
    }


async def stream(
    release: Release, inventory: Mapping[str, Any], *, advance: Callable[[int], None]
) -> AsyncIterator[bytes]:
    """Yield the stream; ``advance`` is called with the bytes of files that are sent or there."""
    for name, content in (
        ("release.json", release.manifest),
        ("release.json.sig", release.signature),
    ):
        yield _head(name, 0, len(content))
        yield content
    for digest, piece in missing(release, inventory).items():
        start = min(inventory["blobs"].get(f"{digest}.part", 0), piece.num_bytes)
        advance(start)
        yield _head(digest, start, piece.num_bytes - start)
        for offset in range(start, piece.num_bytes, _WINDOW):
            window = _read(piece.source, offset, min(_WINDOW, piece.num_bytes - offset))
            yield window
            advance(len(window))


def _head(name: str, offset: int, num_bytes: int) -> bytes:
    return json.dumps({"name": name, "offset": offset, "num_bytes": num_bytes}).encode() + b"\n"


def _read(source: Path | bytes, offset: int, num_bytes: int) -> bytes:
    if isinstance(source, bytes):
        return source[offset : offset + num_bytes]
    with source.open("rb") as file:
        file.seek(offset)
        found = file.read(num_bytes)
    if len(found) < num_bytes:
        raise OSError(f"{str(source)!r} became shorter while it was sent")
    return found
