"""What `rollback` and `unflash` share: options, one action on each board, and its printed line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from siftmoe.tools.commands.boards.flash import add_ssh, load_site

if TYPE_CHECKING:
    import argparse


def configure_boards(parser: argparse.ArgumentParser) -> None:
    """Add the options: testbed, agents, SSH configuration."""
    parser.add_argument("testbed", type=Path, metavar="TESTBED.toml")
    parser.add_argument("agents", nargs="+", metavar="AGENT")
    add_ssh(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per board")


def act(args: argparse.Namespace, action: str, *, done: str) -> int:
    """Run an action on every board; returns 0 if no board refused.

    Parameters
    ----------
    args : Namespace
        Of `configure_boards`.
    action : str
        Name of the board program's command.
    done : str
        Text printed for a board that succeeded; names in braces are fields of its answer.
    """
    site = load_site(args)
    from siftmoe.tools.flashing.boards import command_all

    failed = False
    for name, said in command_all(site, args.agents, action):
        failed |= "error" in said
        if args.json:
            print(json.dumps({"board": name, **said}))
        else:
            print(f"{name}: {said.get('error') or done.format(**said)}")
    return int(failed)
