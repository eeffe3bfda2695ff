"""The journal of an unfinished bundle, by which an interrupted preparation is resumed.

The first line of ``.preparing/journal.jsonl`` states the source and the precision; a line per
finished file follows. An incomplete line is ignored, so a crash in the middle of one costs one
expert.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from typing import TYPE_CHECKING

import msgspec

from siftmoe.models.bundle.manifest import FORMAT, MANIFEST_NAME, Dtype, FileRecord, file_sha256
from siftmoe.models.errors import BundleConflict

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

WORK_FOLDER = ".preparing"
_JOURNAL_NAME = "journal.jsonl"


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Source and precision of a preparation; only the same ones may resume it."""

    source_sha256: str
    dtype: Dtype
    format: int = FORMAT


class _Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    record: FileRecord


class Journal:
    """Locks a bundle's folder and records which of its files are finished.

    Use as a context manager; ``finish`` removes it once the manifest is written.
    """

    def __init__(self, root: Path, header: Header) -> None:
        self.root = root
        self.header = header
        self.work = root / WORK_FOLDER
        self._done: dict[str, FileRecord] = {}

    def __enter__(self) -> Journal:
        _check_free(self.root)
        self.work.mkdir(parents=True, exist_ok=True)
        self._stream = (self.work / _JOURNAL_NAME).open("a+b")
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read()
        except BlockingIOError as error:
            self._stream.close()
            raise BundleConflict(
                f"bundle {str(self.root)!r} is being prepared by another process; wait for it or "
                f"give another --out"
            ) from error
        except BundleConflict:
            self._stream.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.close()

    def add(self, name: str) -> FileRecord:
        """Record a file that was written under its final name."""
        path = self.root / name
        record = FileRecord(sha256=file_sha256(path), num_bytes=path.stat().st_size)
        self._write(msgspec.json.encode(_Line(name=name, record=record)))
        self._done[name] = record
        return record

    def finished(self, name: str) -> FileRecord | None:
        """Return the record of a file that is finished and unchanged on disk, else None."""
        record, path = self._done.get(name), self.root / name
        if record is None or not path.is_file() or path.stat().st_size != record.num_bytes:
            return None
        return record if file_sha256(path) == record.sha256 else None

    def finish(self) -> None:
        """Remove the journal's folder."""
        shutil.rmtree(self.work)

    def _read(self) -> None:
        self._stream.seek(0)
        content = self._stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            self._stream.truncate(0)
            self._write(msgspec.json.encode(self.header))
            return
        self._stream.truncate(len(whole))
        first, *lines = whole.splitlines()
        if msgspec.json.decode(first, type=Header) != self.header:
            raise BundleConflict(
                f"bundle {str(self.root)!r} was begun from another model or precision; delete the "
                f"folder or give another --out"
            )
        entries = [msgspec.json.decode(line, type=_Line) for line in lines]
        self._done = {entry.name: entry.record for entry in entries}

    def _write(self, line: bytes) -> None:
        self._stream.write(line + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())


def _check_free(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise BundleConflict(f"{str(root)!r} is not a folder; give another --out")
    if root.is_dir() and any(root.iterdir()) and not (root / WORK_FOLDER).is_dir():
        raise BundleConflict(
            f"folder {str(root)!r} holds other files and no {MANIFEST_NAME}; give another --out"
        )
