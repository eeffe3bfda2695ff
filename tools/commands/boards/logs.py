"""Show the log of an agent on a board: the systemd journal, or the supervisor's log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from siftmoe.tools.commands.boards.flash import add_ssh, load_site
from siftmoe.tools.terminal.text import readable

if TYPE_CHECKING:
    import argparse

SUMMARY = "show the log of an agent on a board"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``siftmoe logs``."""
    parser.epilog = "example: siftmoe logs testbed.toml bench-3 --lines 200"
    parser.add_argument("testbed", type=Path, metavar="TESTBED.toml")
    parser.add_argument("agent", metavar="AGENT")
    parser.add_argument("--lines", type=int, default=50, metavar="N", help="last N lines (50)")
    add_ssh(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the log."""
    import asyncio

    site = load_site(args)
    from siftmoe.tools.flashing.boards import command

    (index,) = site.boards([args.agent])
    said = asyncio.run(command(site, index, "log", str(args.lines)))
    print(json.dumps(said) if args.json else readable(said["log"]))
    return 0
