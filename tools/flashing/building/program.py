"""Packs the program that runs on a board into one file for the board's own Python."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Final

_PACKAGE: Final = "siftmoe/tools/flashing/onboard"
_MAIN: Final = (
    b"import sys\nfrom siftmoe.tools.flashing.onboard.command import main\nsys.exit(main())\n"
)
#: Constant date, so that the same sources give the same file; files are identified by their hash.
_DATE: Final = (1980, 1, 1, 0, 0, 0)


def board_program() -> bytes:
    """Return the program: a zip file that Python can run."""
    folder = Path(__file__).parents[1] / "onboard"
    files = {f"{_PACKAGE}/{path.name}": path.read_bytes() for path in sorted(folder.glob("*.py"))}
    parents = ("siftmoe", "siftmoe/tools", "siftmoe/tools/flashing")
    files |= {f"{parent}/__init__.py": b"" for parent in parents}
    files["__main__.py"] = _MAIN
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _DATE), content)
    return packed.getvalue()
