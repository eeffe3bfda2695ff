"""Switch boards back to their previous release; a second rollback returns to the newer one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siftmoe.tools.commands.boards.action import act, configure_boards

if TYPE_CHECKING:
    import argparse

SUMMARY = "switch boards back to the previous release"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``siftmoe rollback``."""
    parser.epilog = "example: siftmoe rollback testbed.toml bench-3"
    configure_boards(parser)


def run(args: argparse.Namespace) -> int:
    """Switch back; returns 0 if every board did."""
    return act(args, "rollback", done="serves {current}")
