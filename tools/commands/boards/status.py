"""Show the state of a testbed's agents and boards.

Agents are asked over the network, with the testbed's keys. Boards with ssh = "user@host" are asked
over SSH for their release and the state of its service. Nothing is changed.

With --watch the table is refreshed: states, queues, rates, temperatures and power. Boards are not
asked over SSH then.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from siftmoe.tools.commands.arguments import add_wide, count, positive
from siftmoe.tools.commands.boards.flash import add_ssh, load_site

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from siftmoe.tools.flashing.site import Site
    from siftmoe.tools.watching.agents import Row

SUMMARY = "show the state of a testbed's agents and boards"

_HELLO_S = 3.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``siftmoe status``."""
    parser.epilog = "example: siftmoe status testbed.toml --watch"
    parser.add_argument("testbed", type=Path, metavar="TESTBED.toml")
    parser.add_argument("agents", nargs="*", metavar="AGENT", help="only these (all)")
    add_ssh(parser)
    parser.add_argument("--watch", action="store_true", help="refresh until interrupted")
    parser.add_argument(
        "--every", type=positive, default=2.0, metavar="S", help="seconds between looks (2)"
    )
    parser.add_argument("--looks", type=count, metavar="N", help="stop after N looks")
    parser.add_argument("--json", action="store_true", help="print one JSON object per agent")
    add_wide(parser)


def run(args: argparse.Namespace) -> int:
    """Ask agents and boards; returns 0 if every agent is ready, else 1."""
    site = load_site(args)
    chosen = [
        index
        for index, agent in enumerate(site.testbed.agent)
        if not args.agents or agent.name in args.agents
    ]
    if unknown := {*args.agents} - {site.agent(index).name for index in chosen}:
        raise ValueError(f"no agent is called {min(unknown)!r}")
    rows = _follow(site, chosen, args) if args.watch else _once(site, chosen, args)
    return int(any(row["state"] != "ready" for row in rows))


def _once(site: Site, chosen: list[int], args: argparse.Namespace) -> list[Row]:
    from siftmoe.tools.watching.boards import look_once

    rows = look_once(site, chosen, timeout_s=_HELLO_S)
    if args.json:
        _print_json(rows)
    else:
        from siftmoe.tools.terminal.console import stdout_console
        from siftmoe.tools.watching.table import once

        stdout_console(wide=args.wide).print(once(rows))
    return rows


def _follow(site: Site, chosen: list[int], args: argparse.Namespace) -> list[Row]:
    from contextlib import nullcontext

    from siftmoe.tools.interrupts import terminable
    from siftmoe.tools.watching.agents import watching
    from siftmoe.tools.watching.table import Screen

    rows: list[Row] = []
    looks = 0
    try:
        with (
            terminable(),
            watching(site, chosen, timeout_s=_HELLO_S) as agents,
            nullcontext() if args.json else Screen() as screen,
        ):
            while True:
                rows = agents.look()
                if screen is None:
                    _print_json(rows)
                else:
                    screen.show(rows)
                looks += 1
                if looks == args.looks:
                    break
                agents.wait(args.every)
    except KeyboardInterrupt:
        pass  # Ctrl-C is how --watch ends
    return rows


def _print_json(rows: Sequence[Row]) -> None:
    for row in rows:
        print(json.dumps(row), flush=True)
