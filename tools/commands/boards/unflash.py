"""Remove siftmoe from boards: stop the agent, remove its unit, its keys and every release."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siftmoe.tools.commands.boards.action import act, configure_boards

if TYPE_CHECKING:
    import argparse

SUMMARY = "remove siftmoe from boards"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``siftmoe unflash``."""
    parser.epilog = "example: siftmoe unflash testbed.toml bench-3"
    configure_boards(parser)


def run(args: argparse.Namespace) -> int:
    """Remove siftmoe; returns 0 if every board did."""
    return act(args, "remove", done="removed {removed}")
