"""Writes ``experts`` lists into the text of a testbed file; everything else stays as it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from siftmoe.coordinator.config.entries import Testbed
from siftmoe.coordinator.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from siftmoe.coordinator.config.entries import ExpertId

_AGENT = re.compile(r"^\s*\[\[\s*agent\s*\]\]\s*(#.*)?$")
_TABLE = re.compile(r"^\s*\[")
_NAME = re.compile(r"""^\s*name\s*=\s*["']([^"']*)["']""")
_EXPERTS = re.compile(r"^\s*experts\s*=")
_MOST: Final = 96  # columns of a line


def with_experts(text: str, experts: Mapping[str, Sequence[ExpertId]]) -> str:
    """Give each agent of a testbed file its experts.

    Parameters
    ----------
    text : str
        A testbed file that can be read.
    experts : mapping
        Layer and expert by the agent's name, for every agent.

    Returns
    -------
    str
        The same text with other ``experts`` keys; comments and order stay.

    Raises
    ------
    ConfigError
        If an agent has no expert, or the agents are not written as ``[[agent]]`` tables.
    """
    before = msgspec.toml.decode(text, type=Testbed)
    for agent in before.agent:
        if not experts[agent.name]:
            raise ConfigError(
                f"agent {agent.name!r} would host nothing, which a testbed file cannot say; leave "
                f"it out of the file, or let experts have more hosts"
            )
    blocks = _blocks(text.splitlines())
    written = [line for block in blocks for line in _placed(block, experts)]
    result = "\n".join(written) + "\n"
    wanted = msgspec.structs.replace(
        before,
        agent=[
            msgspec.structs.replace(agent, experts=sorted(experts[agent.name]))
            for agent in before.agent
        ],
    )
    try:
        same = msgspec.toml.decode(result, type=Testbed) == wanted
    except msgspec.DecodeError:
        same = False
    if not same:
        raise ConfigError(
            "the experts cannot be written into this testbed file: its agents must be [[agent]] "
            "tables with one key on a line; write it so, or copy the lists from --json"
        )
    return result


def _blocks(lines: Sequence[str]) -> list[list[str]]:
    """Split lines before every table's header; lists over several lines stay whole."""
    blocks: list[list[str]] = [[]]
    depth = 0
    for line in lines:
        if depth == 0 and _TABLE.match(line):
            blocks.append([])
        blocks[-1].append(line)
        header = depth == 0 and _TABLE.match(line)
        depth = 0 if header else max(0, depth + _opened(line))
    return blocks


def _opened(line: str) -> int:
    """Brackets that a line opens and does not close, outside strings and comments."""
    bare = re.sub(r"\"[^\"]*\"|'[^']*'|#.*", "", line)
    return bare.count("[") - bare.count("]")


def _placed(block: Sequence[str], experts: Mapping[str, Sequence[ExpertId]]) -> list[str]:
    """Replace the experts of an agent's table; other tables stay."""
    if not block or not _AGENT.match(block[0]):
        return list(block)
    kept: list[str] = []
    depth, name, at = 0, None, 0
    for line in block[1:]:
        if depth or _EXPERTS.match(line):
            depth = max(0, depth + _opened(line))
            continue
        kept.append(line)
        if found := _NAME.match(line):
            name, at = found[1], len(kept)
    if name is None or name not in experts:
        return list(block)  # the comparison afterwards refuses it
    return [block[0], *kept[:at], *_lines(experts[name]), *kept[at:]]


def _lines(experts: Sequence[ExpertId]) -> list[str]:
    """Write ``experts = [[0, 1], …]``, over several lines where one would be too long."""
    pairs = [f"[{layer}, {expert}]" for layer, expert in sorted(experts)]
    one = f"experts = [{', '.join(pairs)}]"
    if len(one) <= _MOST:
        return [one]
    lines, line = ["experts = ["], "   "
    for pair in pairs:
        if len(line) + len(pair) + 2 > _MOST:
            lines.append(line)
            line = "   "
        line += f" {pair},"
    return [*lines, line, "]"]
