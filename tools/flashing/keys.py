"""A testbed's keys on disk: one private file per device, public keys in the testbed's files.

::

    testbed.toml           [[agent]] … key = "PUBLIC"      authenticates the agent
    keys/                  mode 0700, ignored by git
        coordinator.key    mode 0600
        NAME.key           mode 0600, one per agent; goes to that board only
        allowed            clients that agents admit: PUBLIC NAME per line
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from siftmoe.agent.security.keys import KeyPair, is_public_key, load_allowed
from siftmoe.coordinator.client.security import COORDINATOR_KEY
from siftmoe.coordinator.config.testbed import load_testbed
from siftmoe.coordinator.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

ALLOWED_FILE: Final = "allowed"
#: Name of the coordinator's key on the allow-list and in the folder.
COORDINATOR: Final = COORDINATOR_KEY.removesuffix(".key")

_HEADER: Final = re.compile(r"\s*\[")
_AGENT: Final = re.compile(r"\s*\[\[\s*agent\s*\]\]")
_NAME: Final = re.compile(r"""(?P<indent>\s*)name\s*=\s*(?P<quote>["'])(?P<name>.*?)(?P=quote)""")
_KEY: Final = re.compile(r"\s*key\s*=")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceKey:
    """A device's public key, and whether it is new."""

    name: str
    public: str
    new: bool


def key_file(folder: str | Path, name: str) -> Path:
    """Return the file of a device's key pair."""
    return Path(folder) / f"{name}.key"


def make_keys(testbed: Path, *, renew: Collection[str] = ()) -> list[DeviceKey]:
    """Make the missing keys of a testbed, and write the public ones into its file.

    Parameters
    ----------
    testbed : Path
    renew : collection of str
        Names of devices whose keys are replaced.

    Raises
    ------
    ConfigError
        If the testbed is wrong, has no such device, or is laid out so that keys cannot be written
        into it.
    KeyUnusable
        If a key file or the allow-list that is there cannot be used.
    """
    config = load_testbed(testbed)
    names = [COORDINATOR, *[agent.name for agent in config.agent]]
    if names.count(COORDINATOR) > 1:
        raise ConfigError(f"an agent cannot be called {COORDINATOR!r}: that is the user's device")
    if unknown := sorted({*renew} - {*names}):
        raise ConfigError(f"testbed {str(testbed)!r} has no {unknown[0]!r}: {', '.join(names)}")
    folder = Path(config.security.keys)
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    devices = [_device_key(folder, name, renew=name in renew) for name in names]
    _admit(folder / ALLOWED_FILE, devices[0].public)
    keys = {device.name: device.public for device in devices[1:]}
    _replace(testbed, with_keys(testbed.read_text(encoding="utf-8"), keys))
    _check_written(testbed, keys)
    return devices


def with_keys(text: str, keys: Mapping[str, str]) -> str:
    """Write agents' public keys into a testbed's text; everything else is unchanged."""
    lines = text.splitlines(keepends=True)
    starts = [n for n, line in enumerate(lines) if _HEADER.match(line)]
    for start, end in reversed([*zip(starts, [*starts[1:], len(lines)], strict=True)]):
        if _AGENT.match(lines[start]):
            lines[start:end] = _with_key(lines[start:end], keys)
    return "".join(lines)


def _with_key(block: list[str], keys: Mapping[str, str]) -> list[str]:
    found = [(n, match) for n, line in enumerate(block) if (match := _NAME.match(line))]
    if not found or found[0][1]["name"] not in keys:
        return block
    number, match = found[0]
    line = f'{match["indent"]}key = "{keys[match["name"]]}"\n'
    if not block[number].endswith("\n"):
        block[number] += "\n"
    old = [n for n, text in enumerate(block) if _KEY.match(text)]
    place = slice(old[0], old[0] + 1) if old else slice(number + 1, number + 1)
    block[place] = [line]
    return block


def _device_key(folder: Path, name: str, *, renew: bool) -> DeviceKey:
    path = key_file(folder, name)
    if path.exists() and not renew:
        return DeviceKey(name=name, public=KeyPair.load(path).public, new=False)
    path.unlink(missing_ok=True)
    pair = KeyPair.generate()
    pair.save(path)
    return DeviceKey(name=name, public=pair.public, new=True)


def _admit(path: Path, public: str) -> None:
    """Put the coordinator's key on the allow-list; other entries are kept."""
    if not path.exists():
        text = "# who may connect to the agents: a public key and a name per line\n"
    elif load_allowed(path).get(public) == COORDINATOR:
        return
    else:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        text = "".join(line for line in lines if not _is_ours(line))
    _replace(path, f"{text.rstrip()}\n{public}  {COORDINATOR}\n")


def _is_ours(line: str) -> bool:
    key, _, name = line.strip().partition(" ")
    return is_public_key(key) and name.strip() == COORDINATOR


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    if path.exists():
        temporary.chmod(path.stat().st_mode)
    os.replace(temporary, path)


def _check_written(testbed: Path, keys: Mapping[str, str]) -> None:
    for agent in load_testbed(testbed).agent:
        if agent.key != keys[agent.name]:
            raise ConfigError(
                f"testbed {str(testbed)!r} is laid out so that keys cannot be written into it; "
                f'put key = "{keys[agent.name]}" into agent {agent.name!r} by hand'
            )
