"""The command-line reference, from the parsers of ``siftmoe`` themselves."""

from __future__ import annotations

import argparse
import importlib
import textwrap
from functools import partial
from typing import TYPE_CHECKING

from siftmoe.tools import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = """# Command line

Generated from the program's own parsers: `siftmoe COMMAND --help` shows the same. A command ends
with status 0 when it has done its work, 1 when it failed (the reason is one line on stderr), 2 when
it was called wrongly, and 130 after Ctrl-C.

| command | what it does |
|---|---|
"""
_WIDTH = 84


def page() -> str:
    """Return the page as Markdown."""
    summary = "".join(
        f"| [`{name}`](#siftmoe-{name}) | {text} |\n" for name, (_, text) in cli.COMMANDS.items()
    )
    return _HEAD + summary + "\n" + "\n".join(section(p, level=2) for p in parsers().values())


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Every command's parser by the command's name."""
    found = {}
    for name, (path, _) in cli.COMMANDS.items():
        module = importlib.import_module(f"siftmoe.tools.{path}")
        found[name] = cli._command_parser(name, module)
    return found


def section(parser: argparse.ArgumentParser, *, level: int) -> str:
    """Return what one parser says, and the parsers of its actions below it."""
    parser.formatter_class = partial(argparse.RawDescriptionHelpFormatter, width=_WIDTH)
    usage = textwrap.dedent("       " + parser.format_usage().removeprefix("usage: ")).strip()
    parts = [f"{'#' * level} {parser.prog}\n", _text(parser.description or "")]
    parts.append(f"```text\n{usage}\n```\n")
    parts += [_table(list(_rows(parser)))]
    if parser.epilog:
        parts.append(_examples(parser.epilog))
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            parts += [section(inner, level=level + 1) for inner in action.choices.values()]
    return "\n".join(parts)


def _rows(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    for action in parser._actions:
        if isinstance(action, (argparse._HelpAction, argparse._SubParsersAction)):
            continue
        yield _name(action), _help(parser, action)


def _name(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else str(_metavar(action))
    if not action.option_strings:
        return f"`{value}`"
    return ", ".join(f"`{option} {value}`".replace(" `", "`") for option in action.option_strings)


def _metavar(action: argparse.Action) -> str:
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    if action.metavar:
        return action.metavar
    if action.choices is not None:
        return "{" + ",".join(str(choice) for choice in action.choices) + "}"
    return action.dest.upper() if action.option_strings else action.dest


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = argparse.HelpFormatter(parser.prog)
    text = formatter._expand_help(action) if action.help else ""
    return f"{text} (required)" if action.option_strings and action.required else text


def _table(rows: list[tuple[str, str]]) -> str:
    if not rows:
        return ""
    lines = [f"| {name.replace('|', '&#124;')} | {_cell(text)} |" for name, text in rows]
    return "\n".join(["| option | meaning |", "|---|---|", *lines, ""])


def _examples(epilog: str) -> str:
    """Lay out what follows ``example:``, one command a line."""
    _, _, commands = epilog.partition(":")
    lines = (part.strip() for part in commands.strip().replace("\n", "; ").split("; "))
    return "\n".join(["Examples:\n", "```text", *lines, "```", ""])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def _text(text: str) -> str:
    """Keep what is indented in a description as it is laid out."""
    paragraphs = text.strip().replace("::\n", ":\n").split("\n\n")
    return (
        "\n\n".join(
            f"```text\n{p}\n```"
            if p.startswith("    ")
            else p.replace("<", "&lt;").replace("*", "\\*")
            for p in paragraphs
        )
        + "\n"
    )
