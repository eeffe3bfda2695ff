"""The reference of the testbed file, from the structs that read it."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import inspect as types

from siftmoe.coordinator.config import testbed as module
from siftmoe.coordinator.config.testbed import Testbed

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = """# Testbed file

Generated from the structs that read the file (`coordinator/config/`). A misspelt key, a value out
of bounds or an agent named twice is an error that names the file, the place in it and what was
expected. Paths are relative to the file.

"""
_FIELD = re.compile(r"^(?P<names>\w+(?:, \w+)*) : (?P<type>.+)$")
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def page() -> str:
    """Return the page as Markdown."""
    example = inspect.cleandoc(module.__doc__ or "").split(".. code-block:: toml")[1]
    example = inspect.cleandoc(example.split("\nA misspelt")[0])
    parts = [_HEAD, f"```toml\n{example}\n```\n"]
    parts += [_section(name, kind) for name, kind in tables().items()]
    return "\n".join(parts)


def tables() -> dict[str, type[msgspec.Struct]]:
    """Return the struct of every table of the file by the table's name."""
    info = types.type_info(Testbed)
    if not isinstance(info, types.StructType):
        raise TypeError(f"{Testbed} is no struct")
    return {field.encode_name: _struct(field.type).cls for field in info.fields}


def _struct(kind: types.Type) -> types.StructType:
    """Find the struct inside a list or an optional."""
    if isinstance(kind, types.StructType):
        return kind
    inner = [kind.item_type] if isinstance(kind, types.ListType) else list(_alternatives(kind))
    return next(_struct(k) for k in inner if not isinstance(k, types.NoneType))


def _alternatives(kind: types.Type) -> tuple[types.Type, ...]:
    return kind.types if isinstance(kind, types.UnionType) else (kind,)


def _section(name: str, kind: type[msgspec.Struct]) -> str:
    heading = f"[[{name}]]" if name == "agent" else f"[{name}]"
    summary, documented = _documented(kind)
    lines = [f"## {heading}\n", summary.partition(": ")[2].capitalize() + "\n"]
    lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
    info = types.type_info(kind)
    for field in info.fields if isinstance(info, types.StructType) else ():
        described, meaning = documented.get(field.encode_name, ("", ""))
        bounds = _limits(field.type)
        value = ", ".join(part for part in (_choices(field.type) or described, bounds) if part)
        lines.append(f"| `{field.encode_name}` | {value} | {_default(field)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _documented(kind: type[msgspec.Struct]) -> tuple[str, dict[str, tuple[str, str]]]:
    """Return a struct's first line, and type and meaning of each field, from its docstring."""
    summary, _, rest = inspect.cleandoc(kind.__doc__ or "").partition("\n")
    found: dict[str, tuple[str, str]] = {}
    names: list[str] = []
    for line in rest.splitlines():
        if match := _FIELD.match(line):
            names = match["names"].split(", ")
            found.update(dict.fromkeys(names, (match["type"].replace(" or None", ""), "")))
        elif line.startswith("    "):
            for name in names:
                kind_text, meaning = found[name]
                text = f"{meaning} {line.strip()}".strip().replace("``", "`").replace("|", "\\|")
                found[name] = (kind_text, text)
    return summary.replace("``", "`"), found


def _choices(kind: types.Type) -> str:
    """Name the values of a literal."""
    values: list[Any] = []
    for one in _alternatives(kind):
        if isinstance(one, types.LiteralType):
            values += one.values
        elif not isinstance(one, types.NoneType):
            return ""
    shown = [f'"{value}"' if isinstance(value, str) else str(value) for value in values]
    return ", ".join(f"`{text}`" for text in sorted(shown, key=lambda t: (t[0] != '"', len(t), t)))


def _limits(kind: types.Type) -> str:
    return ", ".join(_bounds(kind))


def _bounds(kind: types.Type) -> Iterator[str]:
    for one in _alternatives(kind):
        for key, sign in _BOUNDS.items():
            value = getattr(one, key, None)
            if value is not None:
                yield f"{sign} {_number(value)}"


def _number(value: float) -> str:
    """Write 2000000.0 as 2e6."""
    short = f"{value:g}"
    text = short if float(short) == value else f"{value:.9g}"
    return text.replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")


def _default(field: types.Field) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        return "none"
    if field.default is msgspec.NODEFAULT:
        return "required"
    if field.default is None:
        return "none"
    if isinstance(field.default, tuple):
        return f"`[{', '.join(map(_number, field.default))}]`"
    if isinstance(field.default, (bool, str)):
        text = (
            str(field.default).lower() if field.default in (True, False) else f'"{field.default}"'
        )
        return f"`{text}`"
    if isinstance(field.default, tuple):
        return f"`[{', '.join(_number(value) for value in field.default)}]`"
    return f"`{_number(field.default)}`"
