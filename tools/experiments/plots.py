"""Draws the figures of a study: a panel per model, a line per curve, 95 % confidence bands."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Canvas

from siftmoe.tools.experiments.table import mean_of
from siftmoe.tools.plotting.run import COLOURS, NO_METADATA, STYLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from siftmoe.tools.experiments.studies.definition import Figure
    from siftmoe.tools.experiments.table import Row

#: Sizes in inches: a panel, and a line of the legend below.
_PANEL = (5.0, 3.2)
_LEGEND_LINE = 0.2
_LEGEND_COLUMNS = 2
#: An axis with more swept points keeps matplotlib's ticks.
_MOST_TICKS = 8
_MARKERS = "osD^vPX*<>hd"
_RESOLUTION = 160


def draw(figure: Figure, rows: Sequence[Row], folder: Path) -> str | None:
    """Draw one figure into a folder as PNG and SVG.

    Returns
    -------
    str or None
        The SVG; None if the rows hold no data for the figure.
    """
    shown = [row for row in rows if _has(row, figure)]
    if not shown:
        return None
    places = list(dict.fromkeys((row["model"], row["case"]) for row in shown))
    styles = {label: i for i, label in enumerate(dict.fromkeys(row["curve"] for row in shown))}
    with mpl.rc_context(STYLE):
        columns = _LEGEND_COLUMNS * len(places)
        height = _PANEL[1] + _LEGEND_LINE * math.ceil(len(styles) / columns)
        canvas = Canvas(figsize=(_PANEL[0] * len(places), height))
        panels = canvas.subplots(1, len(places), squeeze=False)[0]
        for panel, place in zip(panels, places, strict=True):
            here = [row for row in shown if (row["model"], row["case"]) == place]
            _draw_panel(panel, figure, here, styles)
            panel.set_title(", ".join(part for part in place if part))
        handles = {
            text: handle
            for panel in panels
            for handle, text in zip(*panel.get_legend_handles_labels(), strict=True)
        }
        canvas.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=columns,
            frameon=False,
        )
        canvas.savefig(folder / f"{figure.name}.png", dpi=_RESOLUTION)
        text = io.StringIO()
        canvas.savefig(text, format="svg", metadata=NO_METADATA)
    svg = text.getvalue()
    (folder / f"{figure.name}.svg").write_text(svg, encoding="utf-8")
    return svg


def _has(row: Row, figure: Figure) -> bool:
    known = row.get(figure.x) is not None and row.get(figure.y) is not None
    return known and (figure.task is None or row["task"] == figure.task)


def _draw_panel(panel: Any, figure: Figure, rows: Sequence[Row], styles: dict[str, int]) -> None:
    curves: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        curves[row["curve"]].append(row)
    if figure.frontier is not None:
        _draw_frontier(panel, figure, curves)
    for label, members in curves.items():
        x, y, half = _points(figure, members)
        index = styles[label]
        colour = COLOURS[index % len(COLOURS)]
        marker = _MARKERS[index % len(_MARKERS)]
        style = "-" if index < len(COLOURS) else "--"
        panel.plot(x, y, style, marker=marker, ms=4, lw=1.2, color=colour, label=label)
        if len(x) > 1:
            panel.fill_between(x, y - half, y + half, color=colour, alpha=0.15, lw=0)
        else:
            panel.errorbar(x, y, yerr=half, color=colour, capsize=2)
    panel.set_xlabel(figure.x_label)
    panel.set_ylabel(figure.y_label)
    if figure.log_x:
        panel.set_xscale("log")
        swept = sorted({float(x) for line in panel.get_lines() for x in line.get_xdata()})
        if figure.by_x and len(swept) <= _MOST_TICKS:
            panel.set_xticks(swept, [f"{value:g}" for value in swept])
            panel.minorticks_off()
    if figure.log_y:
        panel.set_yscale("log")
    if figure.x_max is not None:
        panel.set_xlim(right=figure.x_max)


def _draw_frontier(panel: Any, figure: Figure, curves: dict[str, list[Row]]) -> None:
    """Draw the points that no other point of any curve beats in both quantities."""
    x, y, _ = (
        np.concatenate(part)
        for part in zip(*map(partial(_points, figure), curves.values()), strict=True)
    )
    sign = 1.0 if figure.frontier == "least" else -1.0
    order = np.lexsort((sign * y, x))
    best = np.minimum.accumulate(sign * y[order])
    fresh = np.concatenate([[True], best[1:] < best[:-1]])
    panel.plot(
        x[order][fresh], y[order][fresh], "-", color="0.8", lw=5.0, zorder=0, label="frontier"
    )


def _points(figure: Figure, rows: Sequence[Row]) -> tuple[Any, Any, Any]:
    """Return means over the seeds, ordered along the knob or axis; one seed has no band."""
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        place = row[figure.x] if figure.by_x else (row["stated_loss"], row["knob"])
        groups[place].append(row)
    x = [mean_of(row[figure.x] for row in group).value for group in groups.values()]
    y = [mean_of(row[figure.y] for row in group) for group in groups.values()]
    order = np.argsort(x)
    half = [0.0 if math.isinf(mean.half_width) else mean.half_width for mean in y]
    return (
        np.array(x)[order] * figure.x_scale,
        np.array([mean.value for mean in y])[order] * figure.y_scale,
        np.array(half)[order] * figure.y_scale,
    )
