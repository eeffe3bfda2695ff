"""Look for radios, sound and test a link, calibrate a radio's power, serve emulated ones."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

SUMMARY = "look for radios, sound or test a link, calibrate, emulate"

#: Action -> (module, summary). The modules import nothing heavy before they run.
ACTIONS: dict[str, tuple[str, str]] = {
    "probe": ("siftmoe.tools.commands.radio.probe", "look for radios and print what they are"),
    "sound": ("siftmoe.tools.commands.radio.sound", "exchange pilots between two radios"),
    "link": ("siftmoe.tools.commands.radio.link", "send bursts of data and count what arrives"),
    "calibrate": ("siftmoe.tools.commands.radio.calibrate", "measure a radio's power and store it"),
    "emulate": ("siftmoe.tools.commands.radio.emulate", "serve emulated Plutos on this machine"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the actions, each with the options of its module."""
    parser.epilog = "example: siftmoe radio probe ip:192.168.2.1"
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (path, summary) in ACTIONS.items():
        module = importlib.import_module(path)
        action = actions.add_parser(
            name,
            help=summary,
            description=module.__doc__,
            formatter_class=parser.formatter_class,
        )
        module.configure(action)


def run(args: argparse.Namespace) -> int:
    """Run the action."""
    module = importlib.import_module(ACTIONS[args.action][0])
    status: int = module.run(args)
    return status
