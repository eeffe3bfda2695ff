"""Draws the shares of widths over the channel gain, one panel per policy or model."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Canvas

from siftmoe.tools.plotting.run import NO_METADATA, STYLE
from siftmoe.tools.results.width_mix import GAIN_BIN_DB, by_width

if TYPE_CHECKING:
    from collections.abc import Mapping

    from siftmoe.tools.results.width_mix import Mix

#: Sizes in inches: a panel, and a line of the legend below.
_PANEL = (4.2, 3.0)
_LEGEND_LINE = 0.2
_LEGEND_COLUMNS = 4
_MOST_ACROSS = 4
#: Bins with fewer tokens are not drawn.
_LEAST_TOKENS = 50


class Drawn(NamedTuple):
    """A figure, ready to be saved, and as SVG."""

    canvas: Canvas
    svg: str


def draw_mix(mixes: Mapping[str, Mix], *, over: str = "") -> Drawn | None:
    """Draw stacked bars, one panel per mix; None where nothing was sent.

    Parameters
    ----------
    mixes : mapping
        By the panel's title.
    over : str
        Reference of the gains in the axis label; empty for none.
    """
    mixes = {title: mix for title, mix in mixes.items() if by_width(mix)}
    if not mixes:
        return None
    widths = sorted({width for mix in mixes.values() for width in by_width(mix)})
    colours = mpl.colormaps["viridis"](np.linspace(0.05, 0.95, len(widths)))
    across = min(len(mixes), _MOST_ACROSS)
    down = math.ceil(len(mixes) / across)
    in_line = min(len(widths), _LEGEND_COLUMNS * across)
    height = _PANEL[1] * down + _LEGEND_LINE * math.ceil(len(widths) / in_line)
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(_PANEL[0] * across, height))
        panels = canvas.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        places = panels.ravel()
        for panel, (title, mix) in zip(places, mixes.items(), strict=False):
            _draw_panel(panel, mix, dict(zip(widths, colours, strict=True)))
            panel.set_title(title)
            panel.set_xlabel(f"channel gain{f' over {over}' if over else ''} / dB")
        for panel in places[len(mixes) :]:
            panel.remove()
        for panel in panels[:, 0]:
            panel.set_ylabel("vectors sent / %")
        handles, labels = places[0].get_legend_handles_labels()
        canvas.legend(handles, labels, loc="outside lower center", ncols=in_line, frameon=False)
        text = io.StringIO()
        canvas.savefig(text, format="svg", metadata=NO_METADATA)
    return Drawn(canvas, text.getvalue())


def _draw_panel(panel: Any, mix: Mix, colours: Mapping[int, Any]) -> None:
    """Stack the shares of every width in each bin."""
    bins = [(gain, counts) for gain, counts in mix if sum(counts.values()) >= _LEAST_TOKENS]
    below = np.zeros(len(bins))
    for width, colour in colours.items():
        shares = [100.0 * counts.get(width, 0) / sum(counts.values()) for _, counts in bins]
        panel.bar(
            [gain for gain, _ in bins],
            shares,
            width=0.9 * GAIN_BIN_DB,
            bottom=below,
            color=colour,
            label=f"{width} bits",
        )
        below += shares
