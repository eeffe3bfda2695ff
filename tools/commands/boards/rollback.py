"""Let boards serve the release that they served before; once more brings the newer one back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siftmoe.tools.commands.boards.action import act, configure_boards

if TYPE_CHECKING:
    import argparse

SUMMARY = "let boards serve the release before"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``siftmoe rollback``."""
    parser.epilog = "example: siftmoe rollback testbed.toml bench-3"
    configure_boards(parser)


def run(args: argparse.Namespace) -> int:
    """Go back; 0 if every board did."""
    return act(args, "rollback", done="serves {current}")
