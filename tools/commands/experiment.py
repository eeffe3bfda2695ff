"""Run one study over policies, settings and seeds, and write its tables, figures and page.

Every cell (setting, policy, seed) runs the coordinator with real experts in processes of this
machine and simulated links. Finished cells are kept, and the same command continues an interrupted
study. docs/explanation/experiments.md describes each study and which choices are this project's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from siftmoe.tools.commands.arguments import add_wide, count, links_help, names, policies_help

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
        )
    )
    report(finished, as_json=args.json, wide=args.wide)
    return 0
