"""Run one study over policies, settings and seeds, and write its tables, figures and page.

Every cell (setting, policy, seed) runs the coordinator with real experts in processes of this
machine and simulated links. Finished cells are kept, and the same command continues an interrupted
study. docs/explanation/experiments.md describes each study and which choices are this project's.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siftmoe.tools.commands.arguments import (
    add_channel_options,
    add_uplink,
    add_wide,
    count,
    distances,
    links_help,
    names,
    policies_help,
)

if TYPE_CHECKING:
    import argparse

SUMMARY = "rerun a study of the paper on the bundled models or your own"

#: The names of `siftmoe.tools.experiments.studies.catalogue`; they stand here so that ``--help``
#: does not import it.
NAMES = (
    "quality",
    "tolerance",
    "bandwidth",
    "deadline",
    "fading",
    "helpers",
    "latency",
    "bound",
    "bits",
    "placement",
    "broadcast",
    "floor",
    "distances",
    "circuit",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("name", choices=NAMES, help="the study")
    add(
        "--model",
        default="upcycled,scratch",
        metavar="LIST",
        help="upcycled, scratch, folders of bundles, with commas (upcycled,scratch)",
    )
    add(
        "--policy",
        metavar="LIST",
        help="policies to add to the study's own, as +NAME or +NAME:KEY=VALUE, with commas; "
        + policies_help(),
    )
    add("--links", default="simulated", metavar="NAME", help=links_help("simulated"))
    add_uplink(parser, default=None, usual="the study's")
    add_channel_options(parser, default="the study's own")
    add(
        "--distances",
        type=distances,
        metavar="LIST",
        help="of the helpers, m: one for all (20), one for each (10,20,30), or a spread from the "
        "nearest to the farthest (10:40) (the study's own)",
    )
    add("--task", metavar="LIST", help="tasks; the first one is a text (the study's own)")
    add("--seeds", type=count, metavar="N", help="channels and parts of the tasks (5; quick 2)")
    add("--items", type=count, metavar="N", help="items of each task for one seed (20; quick 3)")
    add(
        "--validation",
        default="perplexity",
        metavar="TASK",
        help="text on which knobs are set to a stated loss (the bundled validation text)",
    )
    add("--jobs", type=count, metavar="N", help="processes (one per core)")
    add(
        "--scheduler",
        metavar="ADDRESS",
        help="run the cells on the Dask cluster of this scheduler, tcp://HOST:PORT, instead of "
        "processes of this machine (extra cluster)",
    )
    add(
        "--per-token",
        action="store_true",
        help="give each token its own window, so that energy is linear in the load "
        "(default: a batch shares the sum of its tokens' deadlines)",
    )
    add("--quick", action="store_true", help="few settings, little text: a look, not a result")
    add("--json", action="store_true", help="print the results as one JSON object")
    add_wide(parser)
    add("--out", type=Path, metavar="FOLDER", help="where to write (runs/experiment-NAME)")
    parser.epilog = "example: siftmoe experiment quality --quick --model upcycled"


def run(args: argparse.Namespace) -> int:
    """Run the study; the next call continues an interrupted one."""
    from siftmoe.tools.experiments.report import report
    from siftmoe.tools.experiments.run import Options, run_study

    finished = run_study(
        Options(
            name=args.name,
            models=names(args.model, "--model"),
            tasks=None if args.task is None else names(args.task, "--task"),
            seeds=args.seeds,
            items=args.items,
            validation=args.validation,
            jobs=args.jobs,
            per_token=args.per_token,
            quick=args.quick,
            out=args.out,
            policies=() if args.policy is None else names(args.policy, "--policy"),
            links=args.links,
            scheduler=args.scheduler,
            uplink=args.uplink,
            air=_air(args),
        )
    )
    report(finished, as_json=args.json, wide=args.wide)
    return 0


def _air(args: argparse.Namespace) -> dict[str, Any]:
    """Fields of the cells' settings that options give."""
    from siftmoe.coordinator.air.operating_points import OPERATING_POINTS
    from siftmoe.coordinator.links.distances import parse

    if args.per_token and args.deadline_per == "layer":
        raise ValueError(
            "--deadline-per layer is one window for a batch, --per-token one for each token; leave "
            "out one of them"
        )
    said: dict[str, Any] = {
        "gain_floor": args.gain_floor,
        "coherence_time_s": args.coherence,
        "deadline_per": args.deadline_per,
    }
    if args.operating_point:
        point = OPERATING_POINTS[args.operating_point]
        said |= {
            "hidden_size": point.hidden_size,
            "bandwidth_hz": point.bandwidth_hz,
            "deadline_s": point.deadline_s,
        }
    if args.distances:
        kind, metres = parse(args.distances)
        if kind == "each":
            said |= {"distances_m": tuple(metres)}
        else:
            low, high = metres[0], metres[-1]
            said |= {"distance_m": math.sqrt(low * high), "distance_spread": high / low}
    return {key: value for key, value in said.items() if value is not None}
