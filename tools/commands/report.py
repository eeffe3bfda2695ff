"""Rebuild the report of a run from what its folder holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

SUMMARY = "rebuild the report of a run from its ledger"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--out", type=Path, help="where to write (default: into that folder)")
    parser.epilog = "example: siftmoe report runs/loopback-1 --out report"


def run(args: argparse.Namespace) -> int:
    """Read the ledger and write the report."""
    from siftmoe.tools.results.policies import load_results
    from siftmoe.tools.showing.report import CONFIG_FILE, write_report

    results = load_results(args.run)
    config = json.loads((args.run / CONFIG_FILE).read_text(encoding="utf-8"))
    out = args.out or args.run
    out.mkdir(parents=True, exist_ok=True)
    print(write_report(out, results, config, run=args.run))
    return 0
