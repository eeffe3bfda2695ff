"""Reports a finished study: a table of every cell, figures, a page, and a summary."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from siftmoe.tools.experiments.studies.axes import USUAL_LOSS
from siftmoe.tools.experiments.studies.catalogue import STUDIES
from siftmoe.tools.experiments.summary import summary_of
from siftmoe.tools.experiments.table import rows_of, write_csv
from siftmoe.tools.results.breakdown import mean_breakdown
from siftmoe.tools.showing.captions import SIMULATED
from siftmoe.tools.showing.page import Section, html_figures, html_table, write_page
from siftmoe.tools.terminal.console import stderr_console, stdout_console
from siftmoe.tools.terminal.tables import table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from siftmoe.tools.experiments.cells.records import Cell
    from siftmoe.tools.experiments.run import Finished
    from siftmoe.tools.experiments.summary import Summary
    from siftmoe.tools.experiments.table import Row
    from siftmoe.tools.results.breakdown import Breakdown
    from siftmoe.tools.results.width_mix import Mix

RESULTS_FILE = "results.csv"
PAGE_FILE = "report.html"
FIGURES = "figures"


def report(finished: Finished, *, as_json: bool, wide: bool = False) -> Path:
    """Write a study's table, figures and page, print its summary, and return the page."""
    rows = rows_of(finished.outcomes)
    write_csv(finished.folder / RESULTS_FILE, rows)
    summaries = summary_of(finished.name, rows)
    page = _write(finished, rows, summaries)
    if as_json:
        tables = [{"title": s.title, "header": s.header, "rows": s.rows} for s in summaries]
        found = {"config": finished.config, "report": str(page), "summary": tables, "rows": rows}
        print(json.dumps(found))
        return page
    console = stdout_console(wide=wide)
    for summary in summaries:
        console.print(f"\n{summary.title}", style="bold")
        console.print(table(summary.header, summary.rows))
    console.print(finished.config["channel"])
    console.print(SIMULATED)
    stderr_console().print(f"report: {page}", soft_wrap=True)
    return page


def _write(finished: Finished, rows: Sequence[Row], summaries: Sequence[Summary]) -> Path:
    from siftmoe.tools.experiments.plots import draw

    study = STUDIES[finished.name]
    folder = finished.folder / FIGURES
    folder.mkdir(exist_ok=True)
    drawn = {figure.name: draw(figure, rows, folder) for figure in study.figures}
    shown = {name: svg for name, svg in drawn.items() if svg is not None}
    captions = _CHOSEN_CAPTIONS | {
        figure.name: f"{figure.caption} {_BANDS}" for figure in study.figures
    }
    page = finished.folder / PAGE_FILE
    write_page(
        page,
        title=f"siftmoe: {study.title}",
        subtitle=f"{', '.join(finished.config['models'])}; {finished.config['seeds']} seeds",
        note=SIMULATED,
        about=f"{study.about} {finished.config['channel']}",
        sections=(
            *(
                Section(s.title, f"{html_table(s.header, s.rows)}<p>{_LEGEND}</p>")
                for s in summaries
            ),
            Section("Figures", html_figures(shown | _chosen(finished, folder), captions)),
        ),
        config=finished.config,
    )
    return page


def _chosen(finished: Finished, folder: Path) -> dict[str, str]:
    """Draw what policies chose at the usual stated loss: widths, decisions, helpers."""
    from siftmoe.tools.plotting.breakdown import draw_helpers, draw_layers
    from siftmoe.tools.plotting.mix import draw_mix

    parts = _breakdowns(finished)
    drawn = {
        _WIDTHS: draw_mix(_mixes(finished), over="the mean"),
        _LAYERS: draw_layers(parts),
        _HELPERS: draw_helpers(parts),
    }
    shown = {name: figure for name, figure in drawn.items() if figure is not None}
    for name, figure in shown.items():
        figure.canvas.savefig(folder / f"{name}.png", dpi=160)
        (folder / f"{name}.svg").write_text(figure.svg, encoding="utf-8")
    return {name: figure.svg for name, figure in shown.items()}


def _breakdowns(finished: Finished) -> dict[str, Breakdown]:
    """Average what each policy did at the usual stated loss over the seeds."""
    parts: dict[str, list[Breakdown]] = defaultdict(list)
    for outcome in finished.outcomes:
        if outcome.cell.loss == USUAL_LOSS:
            for record in outcome.records:
                parts[_title(outcome.cell, record.task)].append(record.breakdown)
    most = dict(list(parts.items())[:_MOST_PANELS])
    return {title: mean_breakdown(same) for title, same in most.items()}


def _title(cell: Cell, task: str) -> str:
    return f"{cell.curve}\n{', '.join(part for part in (cell.model, cell.case, task) if part)}"


def _mixes(finished: Finished) -> dict[str, Mix]:
    """Count the widths that policies chose at the usual stated loss."""
    counts: dict[str, Counter[tuple[float, int]]] = defaultdict(Counter)
    for outcome in finished.outcomes:
        cell = outcome.cell
        if cell.loss != USUAL_LOSS or "bits=auto" not in cell.template:
            continue
        for record in outcome.records:
            for gain_db, widths in record.mix:
                for width, count in widths.items():
                    title = f"{cell.curve}\n{cell.model}, {cell.case}"
                    counts[title][gain_db, width] += count
    return {title: _mix_of(found) for title, found in counts.items()}


def _mix_of(found: Counter[tuple[float, int]]) -> Mix:
    bins: dict[float, dict[int, int]] = defaultdict(dict)
    for (gain_db, width), count in sorted(found.items()):
        bins[gain_db][width] = count
    return tuple(bins.items())


_WIDTHS = "widths"
_BANDS = "Means over seeds; bands are 95 % confidence intervals of the mean."
_LAYERS = "layers"
_HELPERS = "helpers"
#: Panels of a figure of what policies chose.
_MOST_PANELS = 9
_SET = f"at the price set for a rise of {USUAL_LOSS:.1%}"
_CHOSEN_CAPTIONS = {
    _WIDTHS: f"In how many bits vectors went to helpers, {_SET}.",
    _LAYERS: f"Decisions in each layer, and radiated energy per token of the layer, {_SET}.",
    _HELPERS: f"Radiated energy per token of each helper's link, {_SET}; means over seeds.",
}
_LEGEND = (
    "Means over seeds ± half a 95 % confidence interval; a seed is a channel and a part of the "
    "tasks. results.csv has every cell."
)
