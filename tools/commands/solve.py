"""Solve selection instances: helpers for each token at least energy, with proof.

Instances are JSON files (see siftmoe.tools.solving.instance_file). With --json each line of the
output is one object: file, family, status (optimal, feasible or infeasible), objective (joule;
seconds for family w; null if infeasible), lower_bound, helpers (one list per token), bandwidth_hz
(family w) and solve_s. For an infeasible instance, helpers are those of least deviation.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from siftmoe.tools.commands.arguments import add_wide

SUMMARY = "solve selection instances, with proof"

_DEFAULT_LIMIT_S = 20.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="instance, JSON")
    parser.add_argument(
        "--policy", default="siftmoe", metavar="NAME", help="policy to use (default: siftmoe)"
    )
    parser.add_argument(
        "--certificate",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="siftmoe: prove a lower bound and close the gap; without, the first good plan",
    )
    parser.add_argument(
        "--limit-s",
        type=float,
        default=_DEFAULT_LIMIT_S,
        metavar="SECONDS",
        help="siftmoe: time for the program that closes the gap (default: %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    add_wide(parser)
    parser.epilog = "example: siftmoe solve instance.json --json"


def run(args: argparse.Namespace) -> int:
    """Solve every file; returns the exit status."""
    from siftmoe.tools.solving.instance_file import read_instance
    from siftmoe.tools.solving.policy import solving_policy
    from siftmoe.tools.solving.solver import solve
    from siftmoe.tools.solving.warm_up import warm_up

    instances = [(file, read_instance(file)) for file in args.files]
    policy = solving_policy(args.policy, certificate=args.certificate, limit_s=args.limit_s)
    warm_up(policy)
    answers = []
    for file, instance in instances:
        answer = {"file": file, "family": instance.family, **solve(instance, policy)}
        if args.json:
            print(json.dumps(answer), flush=True)
        answers.append(answer)
    if not args.json:
        _show(answers, wide=args.wide)
    return 0


def _show(answers: list[dict[str, Any]], *, wide: bool) -> None:
    from siftmoe.tools.terminal.console import stdout_console
    from siftmoe.tools.terminal.tables import table

    header = ("file", "family", "status", "objective", "lower bound", "gap", "time")
    rows = [
        (
            answer["file"],
            answer["family"],
            answer["status"],
            _figure(answer["objective"], answer["family"]),
            _figure(answer["lower_bound"], answer["family"]),
            _gap(answer["objective"], answer["lower_bound"]),
            f"{answer['solve_s'] * 1e3:.3g} ms",
        )
        for answer in answers
    ]
    stdout_console(wide=wide).print(table(header, rows))


def _figure(value: float | None, family: str) -> str:
    return "-" if value is None else f"{value:.6g} {'s' if family == 'w' else 'J'}"


def _gap(objective: float | None, bound: float | None) -> str:
    if objective is None or bound is None:
        return "-"
    return f"{max(0.0, objective - bound) / objective:.1e}" if objective > 0.0 else "0"
