"""Make the CURVE keys of a testbed's agents and coordinator.

Every device gets its own CURVE key pair: the private key in a file that only its owner can read,
the public key in the testbed file and on the agents' allow-list. Existing keys are kept. To admit
another coordinator, add a line with its public key to the allow-list.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

SUMMARY = "make the CURVE keys of a testbed's agents and coordinator"

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
    """Make the missing keys and list all; no private key is ever printed."""
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
