"""Show what a testbed's agents and boards are.

Agents are asked over the network, with the testbed's keys; boards with ssh = "user@host" are asked
over SSH which release they are on and how its service is. Neither changes anything.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siftmoe.tools.flash import add_ssh, load_site

if TYPE_CHECKING:
    import argparse

    from siftmoe.tools.flashing.site import Site

SUMMARY = "show what a testbed's agents and boards are"

_HELLO_S = 3.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``siftmoe status``."""
    parser.epilog = "example: siftmoe status testbed.toml"
    parser.add_argument("testbed", type=Path, metavar="TESTBED.toml")
    parser.add_argument("agents", nargs="*", metavar="AGENT", help="only these (all)")
    add_ssh(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per agent")


def run(args: argparse.Namespace) -> int:
    """Ask all; 0 if every agent is ready, else 1."""
    import asyncio

    site = load_site(args)
    chosen = [
        index
        for index, agent in enumerate(site.testbed.agent)
        if not args.agents or agent.name in args.agents
    ]
    if unknown := {*args.agents} - {site.agent(index).name for index in chosen}:
        raise ValueError(f"no agent is called {min(unknown)!r}")
    found = asyncio.run(_all(site, chosen))
    if args.json:
        for row in found:
            print(json.dumps(row))
    else:
        _print(found)
    return int(any(row["state"] != "ready" for row in found))


async def _all(site: Site, chosen: list[int]) -> list[dict[str, Any]]:
    import asyncio

    return await asyncio.gather(*[_one(site, index) for index in chosen])


async def _one(site: Site, index: int) -> dict[str, Any]:
    import asyncio

    from siftmoe.tools.flashing.health import ask, release_of

    status = await asyncio.to_thread(ask, site, index, timeout_s=_HELLO_S)
    hello = status.hello
    return {
        "agent": status.name,
        "state": status.state.value,
        "reason": status.reason,
        "release": release_of(status),
        "provider": hello.provider if hello else "",
        "experts": len(hello.residents) if hello else 0,
        "board": await _board(site, index) if site.agent(index).ssh else None,
    }


async def _board(site: Site, index: int) -> dict[str, Any]:
    from siftmoe.tools.flashing.boards import command
    from siftmoe.tools.flashing.errors import FlashError

    try:
        return await command(site, index, "status")
    except FlashError as error:
        return {"error": str(error)}


def _print(found: list[dict[str, Any]]) -> None:
    from siftmoe.tools.console import stdout_console, table

    header = ["agent", "state", "release", "experts", "provider", "board", "before", "service", ""]
    rows = []
    for row in found:
        board = row["board"] or {}
        service = board.get("service", {}).get("state", "")
        rows.append(
            [
                *(row["agent"], row["state"], row["release"], str(row["experts"])),
                *(row["provider"], board.get("current") or "", board.get("previous") or ""),
                *(service, board.get("error") or row["reason"]),
            ]
        )
    stdout_console().print(table(header, rows))
