"""Changes a bundle's manifest, so that a power cut leaves it as it was or as it is to be."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from siftmoe.models.bundle.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from pathlib import Path

    from siftmoe.models.bundle.manifest import Document


def write_manifest(root: Path, document: Document) -> None:
    """Write a bundle's manifest atomically: a power cut leaves the old or the new one."""
    path = root / MANIFEST_NAME
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=1))
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
