"""Choose which agent hosts which expert, replicas included, at least expected energy.

Demand comes from the bundle's profile (routing counts, gate weights, losses of replacing), sizes
from its manifest, memories from the testbed file, and the prices of links from its air: simulated
states by distance and fading, or those that an earlier run sounded. --out writes a testbed file
with the chosen lists. docs/explanation/placement.md has the model and what is proved.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from siftmoe.tools.commands.arguments import add_wide, count, not_negative, positive

if TYPE_CHECKING:
    import argparse

    from siftmoe.tools.placing.plan import Placed

SUMMARY = "choose which agent of a testbed hosts which expert"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("testbed", metavar="TESTBED", help="testbed file, TOML")
    add(
        "--price",
        type=positive,
        metavar="J",
        help="joule that a nat of loss is worth: alike experts stand in for each other (without: "
        "every slot is served by its own expert)",
    )
    add(
        "--most-hosts",
        type=count,
        metavar="N",
        help="hosts of one expert, 1 for no replicas (as many as memories hold and pay)",
    )
    add(
        "--memory",
        type=count,
        metavar="BYTES",
        help="memory for experts of agents that state no memory_bytes",
    )
    add("--states", type=count, default=32, metavar="N", help="channel states to choose by (32)")
    add(
        "--soundings",
        type=Path,
        metavar="FOLDER",
        help="take the links' states from the pilots of this run instead of simulating them",
    )
    add(
        "--limit-s",
        type=not_negative,
        default=20.0,
        metavar="SECONDS",
        help="time for the program that proves how good the placement is (20)",
    )
    add("--out", type=Path, metavar="FILE", help="testbed file to write, beside TESTBED")
    add("--force", action="store_true", help="overwrite the file of --out")
    add("--json", action="store_true", help="print the result as one JSON object")
    add_wide(parser)
    parser.epilog = "example: siftmoe place testbed.toml --most-hosts 2 --out placed.toml"


def run(args: argparse.Namespace) -> int:
    """Choose a placement and print it; write it with --out."""
    from siftmoe.tools.placing.plan import Wanted, plan_placement
    from siftmoe.tools.placing.writing import check_out, write_testbed

    if args.out is not None:
        check_out(Path(args.testbed), args.out, force=args.force)
    placed = plan_placement(
        Wanted(
            testbed=Path(args.testbed),
            price_j_per_nat=args.price,
            most_hosts=args.most_hosts,
            memory_bytes=args.memory,
            states=args.states,
            soundings=args.soundings,
            limit_s=args.limit_s,
        )
    )
    if args.out is not None:
        write_testbed(Path(args.testbed), args.out, placed.experts)
    if args.json:
        print(json.dumps(placed.document(args.out)))
        return 0
    _print(placed, out=args.out, wide=args.wide)
    return 0


def _print(placed: Placed, *, out: Path | None, wide: bool) -> None:
    from siftmoe.tools.placing.showing import agents_table, compared_table, sentences
    from siftmoe.tools.terminal.console import stdout_console
    from siftmoe.tools.terminal.tables import table

    console = stdout_console(wide=wide)
    console.print(table(*agents_table(placed)))
    console.print()
    console.print(table(*compared_table(placed)))
    for sentence in sentences(placed):
        console.print(sentence)
    console.print(
        "not written; give --out FILE" if out is None else f"written: {out}", soft_wrap=True
    )
