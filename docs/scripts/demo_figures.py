"""Figures of the demo for the documentation, from the folder of a run.

``make demo`` and then ``python docs/scripts/demo_figures.py runs/loopback-1`` write
docs/figures/demo*.svg.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rooms import ROOT
from svg import SOFT, Drawing

from siftmoe.tools.results.policies import load_results
from siftmoe.tools.showing.quantities import si

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siftmoe.tools.results.policies import PolicyResult

FIGURES = ROOT / "docs" / "figures"
#: Figures of the report that the tutorial shows.
SHOWN = ("perplexity", "decisions", "links", "widths")
WHAT = {
    "topk": "every expert that the router chose",
    "topk-1": "only the heaviest one",
    "siftmoe:loss=0.025": "keeps, replaces or skips; told to lose 2.5 %",
    "siftmoe:bits=auto:loss=0.025": "chooses the bits of every vector too",
}
COLOURS = ("#8a93a3", "#8a93a3", "#4c7fc4", "#1f9a6d")


def picture(results: Sequence[PolicyResult]) -> Drawing:
    """Draw the energy of every policy as a bar, its quality beside it."""
    drawing = Drawing(960, 60 + 72 * len(results) + 34, "Radio energy per token of the demo")
    drawing.text(
        20, 32, "Radio energy per token, both directions, control included", size=16, bold=True
    )
    drawing.text(668, 32, "saved", size=13, colour=SOFT)
    drawing.text(744, 32, "perplexity", size=13, colour=SOFT)
    drawing.text(846, 32, "multiple choice", size=13, colour=SOFT)
    most = max(result.energy_j_per_token for result in results)
    for number, result in enumerate(results):
        y = 58 + 72 * number
        _bar(drawing, y, result, most=most, colour=COLOURS[number % len(COLOURS)])
    drawing.text(
        20,
        drawing.height - 14,
        "make demo: eight agents, simulated Rayleigh links, energy modelled; 100 documents, "
        "100 questions, one seed",
        size=12,
        colour=SOFT,
    )
    return drawing


def _bar(drawing: Drawing, y: float, result: PolicyResult, *, most: float, colour: str) -> None:
    energy = result.energy_j_per_token
    what = WHAT.get(result.policy, "")
    drawing.text(20, y + 14, result.policy, size=14, bold=True, after=what)
    length = max(540 * energy / most, 3.0)
    drawing.box(20, y + 22, length, 26, fill=colour)
    drawing.text(28 + length, y + 40, si(energy, "J"), size=14)
    saved = 1.0 - energy / most
    drawing.text(668, y + 40, f"{100 * saved:.0f} %" if saved > 0.0 else "-", size=14)
    for x, metric, digits in ((744, "perplexity", 2), (846, "accuracy", 2)):
        drawing.text(x, y + 40, f"{result.metrics[metric][0]:.{digits}f}", size=14)


def main(run: Path) -> None:
    """Write the figures of a run."""
    (FIGURES / "demo.svg").write_text(str(picture(load_results(run))), encoding="utf-8")
    for name in SHOWN:
        shutil.copyfile(run / "figures" / f"{name}.svg", FIGURES / f"demo-{name}.svg")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
