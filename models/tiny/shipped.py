"""Writes and checks the list of shipped files with their sizes and hashes.

::

    python -m siftmoe.models.tiny.shipped write
    python -m siftmoe.models.tiny.shipped check

``manifest.json`` lists the files of the checkpoints and of ``data/``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

from siftmoe.models.tiny.files import CHECKPOINTS, DATA, checkpoint_dir, data_path

_ROOT = Path(__file__).parent
MANIFEST = _ROOT / "manifest.json"


def shipped_files() -> list[Path]:
    """Return the files of every checkpoint and evaluation set."""
    folders = [checkpoint_dir(name) for name in CHECKPOINTS]
    files = [file for folder in folders for file in folder.iterdir()]
    return sorted([*files, *(data_path(name) for name in DATA)])


def describe(files: list[Path]) -> dict[str, dict[str, object]]:
    """Return size in bytes and sha256 of each file, by its path in this folder."""
    return {
        file.relative_to(_ROOT).as_posix(): {
            "bytes": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for file in files
    }


def differences() -> list[str]:
    """Return the paths that are missing, not listed, or different from the manifest."""
    listed = json.loads(MANIFEST.read_text(encoding="utf-8"))
    found = describe(shipped_files())
    return sorted(
        path for path in listed.keys() | found.keys() if listed.get(path) != found.get(path)
    )


def main() -> None:
    """Write or check the manifest from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=("write", "check"))
    if parser.parse_args().action == "write":
        MANIFEST.write_text(json.dumps(describe(shipped_files()), indent=1) + "\n")
        return
    wrong = differences()
    if wrong:
        raise SystemExit(f"not what {MANIFEST.name} says: {', '.join(wrong)}")
    print(f"{len(shipped_files())} files are what {MANIFEST.name} says")


if __name__ == "__main__":
    main()
