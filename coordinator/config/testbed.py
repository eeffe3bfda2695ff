r"""The testbed file: which model, which policy, which air, which agents.

.. code-block:: toml

    [model]
    bundle = "mixtral.bundle"        # relative to this file

    [policy]
    name = "siftmoe"
    options = { tolerance = 0.05 }

    [radio]
    bandwidth_hz = 2e6
    deadline_s = 0.074
    fading = "rayleigh"

    [[agent]]
    name = "bench-1"
    address = "tcp://192.168.1.21:5555"
    experts = "0:0,0:1"              # or "*:0", or [[0, 0], [0, 1]], or "auto"
    distance_m = 4.0

A misspelt key, a value out of bounds or an agent named twice is a `ConfigError` that names the
file, the place in it and what was expected.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import msgspec

from siftmoe.coordinator.config.entries import (
    FORMS,
    AgentEntry,
    FaultsEntry,
    FlashEntry,
    ModelEntry,
    PolicyEntry,
    SecurityEntry,
    Testbed,
)
from siftmoe.coordinator.config.radio import RadioEntry, SoundingEntry
from siftmoe.coordinator.errors import ConfigError

_UNKNOWN_KEY = re.compile(r"Object contains unknown field `(?P<key>[^`]*)`")
_PLACE = re.compile(r" - at `\$(?P<path>[^`]*)`$")


def load_testbed(path: str | Path) -> Testbed:
    """Read and check a testbed file.

    Parameters
    ----------
    path : str or Path
        A relative bundle in it is taken from the file's folder.

    Raises
    ------
    ConfigError
        If it cannot be read, is no TOML, or does not say what a testbed must say.
    """
    path = Path(path)
    try:
        testbed = msgspec.toml.decode(path.read_bytes(), type=Testbed)
    except OSError as error:
        raise ConfigError(f"testbed {str(path)!r} cannot be read: {error}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"testbed {str(path)!r}: {_explain(str(error))}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"testbed {str(path)!r} is not valid TOML: {error}") from error
    bundle = str(path.parent / Path(testbed.model.bundle).expanduser())
    keys = str(path.parent / Path(testbed.security.keys).expanduser())
    return msgspec.structs.replace(
        testbed,
        model=ModelEntry(bundle=bundle),
        security=msgspec.structs.replace(testbed.security, keys=keys),
    )


def _explain(message: str) -> str:
    """Rewrite msgspec's message: first the place in the file, then the problem."""
    place = _PLACE.search(message)
    where = place["path"].lstrip(".") if place else ""
    what = message[: place.start()] if place else message
    unknown = _UNKNOWN_KEY.fullmatch(what)
    if unknown:
        what = f"unknown key {unknown['key']!r}{_suggestion(unknown['key'], where)}"
    if "matching regex" in what:
        what = f"expected {FORMS[where.rpartition('.')[2]]}"
    return f"{where}: {what}" if where else what


def _suggestion(key: str, where: str) -> str:
    tables: dict[str, type[msgspec.Struct]] = {
        "": Testbed,
        "model": ModelEntry,
        "policy": PolicyEntry,
        "radio": RadioEntry,
        "sounding": SoundingEntry,
        "security": SecurityEntry,
        "flash": FlashEntry,
        "faults": FaultsEntry,
        "agent": AgentEntry,
    }
    known = tables[where.partition("[")[0]].__struct_fields__
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
