"""Changes a finished bundle: its manifest, written atomically, and its tokenizer files."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from siftmoe.models.bundle.manifest import (
    BACKBONE_FOLDER,
    MANIFEST_NAME,
    FileRecord,
    Manifest,
    file_sha256,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from siftmoe.models.bundle.manifest import Document
    from siftmoe.models.checkpoint.files import CheckpointFiles


def write_manifest(root: Path, document: Document) -> None:
    """Write a bundle's manifest atomically: a power cut leaves the old or the new one."""
    path = root / MANIFEST_NAME
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=1))
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


def update_companions(root: Path, files: CheckpointFiles) -> bool:
    """Copy the tokenizer and generation files that a bundle lacks, or that differ from its own.

    The manifest lists only complete files: it is written before and after the copy.

    Returns
    -------
    bool
        Whether there was any such file.
    """
    with locked(root):
        document = Manifest.load(root).document
        changed = {
            name: path
            for name, path in _backbone_names(files).items()
            if document.files.get(name) != _record(path)
        }
        if changed:
            _replace(root, document, changed)
    return bool(changed)


def _backbone_names(files: CheckpointFiles) -> dict[str, Path]:
    return {
        f"{BACKBONE_FOLDER}/{path.relative_to(files.root).as_posix()}": path
        for path in files.companions
    }


def _replace(root: Path, document: Document, changed: dict[str, Path]) -> None:
    kept = {name: record for name, record in document.files.items() if name not in changed}
    write_manifest(root, msgspec.structs.replace(document, files=kept))
    for name, path in changed.items():
        part = root / f"{name}.part"
        part.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, part)
        part.replace(root / name)
    new = {name: _record(root / name) for name in changed}
    write_manifest(root, msgspec.structs.replace(document, files={**kept, **new}))


def _record(path: Path) -> FileRecord:
    return FileRecord(sha256=file_sha256(path), num_bytes=path.stat().st_size)


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Lock the bundle's folder, so that one process at a time changes it."""
    folder = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
