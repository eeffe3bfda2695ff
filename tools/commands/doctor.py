"""List what is missing on this machine and how to install it.

Exit status 0 if the main job can run here, 1 if something that it needs is missing.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

SUMMARY = "list what is missing on this machine and how to install it"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", action="store_true", help="one JSON object per finding")
    parser.epilog = "example: siftmoe doctor --json"


def run(args: argparse.Namespace) -> int:
    """Check this machine and print the findings."""
    from siftmoe.tools.installation.checks import checks

    findings = list(checks())
    for check in findings:
        if args.json:
            print(json.dumps(asdict(check)))
        else:
            mark = "ok " if check.ok else ("MISSING" if check.needed else "absent")
            print(f"{mark:8}{check.name:24}{check.found}")
            if not check.ok:
                print(f"{'':8}{'':24}-> {check.remedy}")
    return int(any(check.needed and not check.ok for check in findings))
