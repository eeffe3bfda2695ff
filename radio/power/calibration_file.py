"""The calibration file: TOML; every value is checked on reading, the file is replaced atomically.

.. code-block:: toml

    version = 1

    [[level]]
    serial = "1044739a47340011e6ff2a0035e14e25a5"
    path = "transmit"
    carrier_hz = 2400000000.0
    full_scale_dbm = 6.42
    std_db = 0.25
    temperature_c = 38.0
    measured_at = "2026-03-01T10:00:00+00:00"
    method = "power meter"

    [[pair]]
    transmitter = "1044739a47340011e6ff2a0035e14e25a5"
    receiver = "10447384b904001911002d00c9a14e25a5"
    carrier_hz = 2400000000.0
    difference_db = 6.9
    std_db = 0.2
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import Struct

from siftmoe.radio.errors import CalibrationError
from siftmoe.radio.power.calibration import LevelEntry, PairEntry

if TYPE_CHECKING:
    from collections.abc import Sequence


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: Literal[1]
    level: list[LevelEntry] = []
    pair: list[PairEntry] = []


def default_path() -> Path:
    """Return the user's calibration file: ``$XDG_CONFIG_HOME/siftmoe/calibration.toml``."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG base directory specification: a relative path is to be ignored.
    folder = Path(base) if Path(base).is_absolute() else Path.home() / ".config"
    return folder / "siftmoe" / "calibration.toml"


def read(path: Path) -> tuple[tuple[LevelEntry, ...], tuple[PairEntry, ...]]:
    """Read all entries; a missing file has none.

    Raises
    ------
    CalibrationError
        If the file cannot be read or a value in it is not valid.
    """
    try:
        found = msgspec.toml.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        return (), ()
    except OSError as error:
        raise CalibrationError(f"calibration {str(path)!r} cannot be read: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CalibrationError(
            f"calibration {str(path)!r}: {error}; correct it, or move it away and calibrate again"
        ) from error
    return tuple(found.level), tuple(found.pair)


def write(path: Path, levels: Sequence[LevelEntry], pairs: Sequence[PairEntry]) -> None:
    """Replace the file atomically: after a crash it is the old one or the new one.

    Raises
    ------
    CalibrationError
        If it cannot be written, or an entry is out of bounds.
    """
    try:
        msgspec.convert([msgspec.to_builtins(item) for item in levels], list[LevelEntry])
        msgspec.convert([msgspec.to_builtins(item) for item in pairs], list[PairEntry])
    except msgspec.ValidationError as error:
        raise CalibrationError(f"calibration: not stored, {error}") from error
    tables = [_table("level", item) for item in levels] + [_table("pair", item) for item in pairs]
    try:
        _replace(path, "\n".join(["version = 1\n", *tables]))
    except OSError as error:
        raise CalibrationError(f"calibration {str(path)!r} cannot be written: {error}") from error


def _table(name: str, entry: LevelEntry | PairEntry) -> str:
    values = msgspec.to_builtins(entry)
    lines = [f"{key} = {_value(value)}" for key, value in values.items() if value not in (None, "")]
    return "\n".join([f"[[{name}]]", *lines, ""])


def _value(value: Any) -> str:
    # A JSON string with no more escapes than it needs is a TOML string, but for the delete key.
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(float(value))
    return text.replace("\x7f", "\\u007f")


def _replace(path: Path, text: str) -> None:
    path = path.resolve()  # a link stays a link
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
