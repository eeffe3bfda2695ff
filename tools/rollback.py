"""Let boards serve the release that they served before; once more brings the newer one back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from siftmoe.tools.flash import add_ssh, load_site

if TYPE_CHECKING:
    import argparse

SUMMARY = "let boards serve the release before"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``siftmoe rollback``."""
    parser.epilog = "example: siftmoe rollback testbed.toml bench-3"
    parser.add_argument("testbed", type=Path, metavar="TESTBED.toml")
    parser.add_argument("agents", nargs="+", metavar="AGENT")
    add_ssh(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per board")


def run(args: argparse.Namespace) -> int:
    """Go back; 0 if every board did."""
    site = load_site(args)
    from siftmoe.tools.flashing.boards import command_all

    failed = False
    for name, said in command_all(site, args.agents, "rollback"):
        failed |= "error" in said
        if args.json:
            print(json.dumps({"board": name, **said}))
        else:
            print(f"{name}: {said.get('error') or 'serves ' + said['current']}")
    return int(failed)
