"""Sum up the energies in a run's ledger by source, with uncertainties.

Energies on the air are those of the user's and the agents' transmitters; the parts of the joule
name what they were spent on, whose battery gave them, and the circuits beside what is radiated.
Sources are measured, derived (typical figures, within a factor of 2) and modelled; they are never
mixed but in sums that are called "all". Board energies come from boards with power sensors: gross,
and net of the energy of idling for the same time.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siftmoe.tools.commands.arguments import add_wide

if TYPE_CHECKING:
    import argparse

    from siftmoe.coordinator.ledger.energy import Quantity
    from siftmoe.coordinator.ledger.summary import Summary

SUMMARY = "sum up a run's energy by source, with uncertainties"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("path", type=Path, metavar="RUN", help="a run's folder, or its ledger")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_wide(parser)
    parser.epilog = "example: siftmoe ledger runs/loopback-1"


def run(args: argparse.Namespace) -> int:
    """Print the sums; returns the exit status."""
    from siftmoe.coordinator.ledger.store import Ledger
    from siftmoe.tools.results.policies import LEDGER_FILE

    path = args.path / LEDGER_FILE if args.path.is_dir() else args.path
    with Ledger.open(path) as ledger:
        summaries = [ledger.summary(number) for number in ledger.labels().values()]
    # The answer and the tasks of a policy are separate runs; runs without a step are left out.
    summaries = [summary for summary in summaries if summary.steps or summary.soundings]
    if args.json:
        print(json.dumps({"runs": [_plain(summary) for summary in summaries]}))
    else:
        _show(summaries, wide=args.wide)
    return 0


def _show(summaries: list[Summary], *, wide: bool) -> None:
    from siftmoe.tools.showing.energy_tables import air_table, board_table, part_table
    from siftmoe.tools.terminal.console import stdout_console
    from siftmoe.tools.terminal.tables import table

    console = stdout_console(wide=wide)
    for summary in summaries:
        console.print(summary.label, style="bold")
        console.print(table(*air_table(summary), foldable=(0, 1)))
        console.print("parts of the joule")
        console.print(table(*part_table(summary), foldable=(0, 1)))
        if summary.boards:
            console.print("boards")
            console.print(table(*board_table(summary), foldable=(0, 1)))
        console.print()
    if not any(summary.boards for summary in summaries):
        console.print("no board with power sensors")


def _plain(summary: Summary) -> dict[str, Any]:
    return {
        "run": summary.label,
        "steps": summary.steps,
        "tokens": summary.tokens,
        "transmissions": [
            {
                "source": part.source.value,
                "direction": part.direction,
                "bursts": part.bursts,
                "airtime_s": part.airtime_s,
                **_energy(part.energy),
            }
            for part in summary.transmissions
        ],
        "soundings": [
            {
                "source": part.source.value,
                "direction": part.direction,
                "exchanges": part.exchanges,
                "detected": part.detected,
                "airtime_s": part.airtime_s,
                **_energy(part.energy),
            }
            for part in summary.soundings
        ],
        "by_source": {s.value: _energy(e) for s, e in summary.energy_by_source.items()},
        "parts": [
            {
                "source": part.source.value,
                "part": part.use.value,
                "battery": part.owner.value,
                "direction": part.direction,
                **_energy(part.energy),
            }
            for part in summary.parts
        ],
        "joule": {**_energy(summary.joule()), "radiated_share": _finite(summary.radiated_share)},
        "boards": [
            {
                "agent": board.agent,
                "rails": board.rails,
                "duration_s": board.duration_s,
                "samples": board.samples,
                "longest_gap_s": board.longest_gap_s,
                **_energy(board.energy),
                **_energy(board.net, "net"),
            }
            for board in summary.boards
        ],
        "boards_total": {
            **_energy(summary.board_energy()),
            **_energy(summary.board_energy(net=True), "net"),
        }
        if summary.boards
        else None,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _energy(energy: Quantity, name: str = "energy") -> dict[str, float]:
    return {f"{name}_j": energy.value, f"{name}_std_j": energy.std}
