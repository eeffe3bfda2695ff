"""Remove siftmoe from boards: stop the agent, remove its unit, its keys and every release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from siftmoe.tools.flash import add_ssh, load_site

if TYPE_CHECKING:
    import argparse

SUMMARY = "remove siftmoe from boards"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``siftmoe unflash``."""
    parser.epilog = "example: siftmoe unflash testbed.toml bench-3"
    parser.add_argument("testbed", type=Path, metavar="TESTBED.toml")
    parser.add_argument("agents", nargs="+", metavar="AGENT")
    add_ssh(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per board")


def run(args: argparse.Namespace) -> int:
    """Remove; 0 if every board is without it."""
    site = load_site(args)
    from siftmoe.tools.flashing.boards import command_all

    failed = False
    for name, said in command_all(site, args.agents, "remove"):
        failed |= "error" in said
        if args.json:
            print(json.dumps({"board": name, **said}))
        else:
            print(f"{name}: {said.get('error') or 'removed ' + said['removed']}")
    return int(failed)
