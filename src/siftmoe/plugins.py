"""Extension points: objects from outside the package, by entry point or as ``package.module:Name``.

A distribution offers a policy, a source of link states or a task under a name in its metadata::

    [options.entry_points]
    siftmoe.policies =
        cautious = my_package.policies:Cautious

and ``--policy cautious`` finds it. What is not installed is named by where it lies:
``--policy my_package.policies:Cautious``; the current folder is searched too. Listing names imports
nothing; an object is imported when it is asked for.
"""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import EntryPoint

    Value = float | bool | str

POLICIES: Final = "siftmoe.policies"
LINKS: Final = "siftmoe.links"
TASKS: Final = "siftmoe.tasks"

#: Group -> what one of its objects is called in messages.
_KINDS: Final = {POLICIES: "policy", LINKS: "source of links", TASKS: "task"}
_PATH: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def installed(group: str) -> dict[str, EntryPoint]:
    """Entry points of a group by name; nothing is imported.

    Raises
    ------
    ValueError
        If two distributions offer the same name.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise ValueError(
                f"{_KINDS[group]} {point.name!r} is offered by {_offered_by(other)} and by "
                f"{_offered_by(point)}; uninstall one of them"
            )
    return found


def names(group: str, builtin: Mapping[str, str]) -> list[str]:
    """All names of a group, sorted: built in and installed."""
    return sorted({*builtin, *installed(group)})


def split(text: str) -> tuple[str, list[str]]:
    """Split ``NAME:part:part`` into its name and parts; ``package.module:Name`` is one name."""
    name, *parts = text.strip().split(":")
    if parts and "=" not in parts[0] and is_path(f"{name}:{parts[0]}"):
        return f"{name}:{parts[0]}", parts[1:]
    return name, parts


def parse(group: str, text: str, builtin: Mapping[str, str]) -> tuple[str, dict[str, Value]]:
    """Read ``NAME:KEY=VALUE:KEY=VALUE``; values are numbers, true, false, or text.

    Parameters
    ----------
    group : str
    text : str
        The name may be ``package.module:Name``.
    builtin : mapping of str to str
        As in `find`.

    Raises
    ------
    ValueError
        If nothing can have this name, or an option is not of this form.
    """
    name, *parts = text.strip().split(":")
    if name not in builtin and name not in installed(group):
        name, parts = split(text)
    check(group, name, builtin)
    options: dict[str, Value] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not (key and equals and value) or key in options:
            raise ValueError(
                f"{_KINDS[group]} {text!r}: {part!r} is not an option; write {name}:KEY=VALUE, "
                f"each key once"
            )
        options[key] = _value(value)
    return name, options


def is_path(name: str) -> bool:
    """Whether a name has the form ``package.module:Name``."""
    return _PATH.fullmatch(name) is not None


def is_there(name: str) -> bool:
    """Whether a name is ``package.module:Name`` of a module that can be imported."""
    if not is_path(name):
        return False
    _search_here()
    try:
        return find_spec(name.partition(":")[0]) is not None
    except (ImportError, ValueError):
        return False


def check(group: str, name: str, builtin: Mapping[str, str]) -> None:
    """Raise ValueError if nothing can have this name; nothing is imported."""
    if not is_path(name) and name not in builtin and name not in installed(group):
        raise ValueError(
            f"no {_KINDS[group]} is named {name!r}; known are {', '.join(names(group, builtin))}; "
            f"one of your own is named package.module:Name"
        )


def find(group: str, name: str, builtin: Mapping[str, str]) -> Any:
    """Import the object of a name.

    Parameters
    ----------
    group : str
        One of ``POLICIES``, ``LINKS``, ``TASKS``.
    name : str
        Built in, an entry point, or ``package.module:Name``.
    builtin : mapping of str to str
        Built-in names, each with its ``module:attribute``; they cannot be replaced.

    Raises
    ------
    ValueError
        If there is none, or it cannot be imported.
    """
    check(group, name, builtin)
    if name in builtin:
        return _load(builtin[name])
    point = installed(group).get(name)
    path = name if point is None else point.value.partition("[")[0].strip()
    origin = "" if point is None else f" of {_offered_by(point)}"
    if point is None:
        _search_here()
    try:
        return _load(path)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{_KINDS[group]} {name!r}{origin}: cannot import {path}: {error}; install "
            f"its package, or start siftmoe in the folder that holds it"
        ) from error


def _search_here() -> None:
    """Let modules of the current folder be imported, after all others."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)


def _value(text: str) -> Value:
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text


def _load(path: str) -> Any:
    module, _, attribute = path.partition(":")
    found: Any = import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def _offered_by(point: EntryPoint) -> str:
    return "an unknown package" if point.dist is None else f"package {point.dist.name}"
