"""Make the keys by which agents and coordinator know each other.

Every device gets a CURVE key pair of its own: the private half in a file that only its owner reads,
the public half in the testbed file and on the agents' allow-list. Keys that are there already stay.
A colleague's coordinator is admitted by a line with its public key in the allow-list.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

SUMMARY = "make the keys by which agents and coordinator know each other"

EXAMPLE = """\
example:
  siftmoe keys testbed.toml
  siftmoe keys testbed.toml --renew bench-3    # after that board was stolen
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``siftmoe keys``."""
    parser.epilog = EXAMPLE
    parser.add_argument("testbed", type=Path, metavar="TESTBED.toml")
    parser.add_argument(
        "--renew", action="append", default=[], metavar="NAME", help="replace this device's keys"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Make what is missing and tell what there is; no private key is ever printed."""
    from dataclasses import asdict

    from siftmoe.coordinator.config.testbed import load_testbed
    from siftmoe.tools.flashing.keys import make_keys

    devices = make_keys(args.testbed, renew=args.renew)
    folder = load_testbed(args.testbed).security.keys
    if args.json:
        print(json.dumps({"folder": folder, "devices": [asdict(device) for device in devices]}))
        return 0
    for device in devices:
        print(f"{device.name:24}{device.public}  {'new' if device.new else 'kept'}")
    print(f"private keys are in {folder}, public ones of the agents in {args.testbed}")
    if any(device.new for device in devices):
        print("agents take new keys up when they are flashed or restarted with them")
    return 0
