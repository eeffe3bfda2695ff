"""Shares of widths over the channel's gain, a panel for each policy or model."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Canvas

from siftmoe.tools.plots import NO_METADATA, STYLE
from siftmoe.tools.width_mix import GAIN_BIN_DB, by_width

if TYPE_CHECKING:
    from collections.abc import Mapping

    from siftmoe.tools.width_mix import Mix

_PANEL = (4.2, 3.0)
#: Bins with fewer tokens say nothing.
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
        What gains are counted over, for the axis; empty for nothing.
    """
    mixes = {title: mix for title, mix in mixes.items() if by_width(mix)}
    if not mixes:
        return None
    widths = sorted({width for mix in mixes.values() for width in by_width(mix)})
    colours = mpl.colormaps["viridis"](np.linspace(0.05, 0.95, len(widths)))
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(_PANEL[0] * len(mixes), _PANEL[1]))
        panels = canvas.subplots(1, len(mixes), squeeze=False, sharey=True)[0]
        for panel, (title, mix) in zip(panels, mixes.items(), strict=True):
            bins = [(gain, counts) for gain, counts in mix if sum(counts.values()) >= _LEAST_TOKENS]
            gains = [gain for gain, _ in bins]
            below = np.zeros(len(bins))
            for width, colour in zip(widths, colours, strict=True):
                shares = [counts.get(width, 0) / sum(counts.values()) for _, counts in bins]
                panel.bar(
                    gains,
                    100.0 * np.array(shares),
                    width=0.9 * GAIN_BIN_DB,
                    bottom=below,
                    color=colour,
                    label=f"{width} bits",
                )
                below += 100.0 * np.array(shares)
            panel.set_title(title)
            panel.set_xlabel(f"channel gain{f' over {over}' if over else ''} / dB")
        panels[0].set_ylabel("vectors sent / %")
        handles, labels = panels[0].get_legend_handles_labels()
        canvas.legend(handles, labels, loc="outside lower center", ncols=len(widths), frameon=False)
        text = io.StringIO()
        canvas.savefig(text, format="svg", metadata=NO_METADATA)
    return Drawn(canvas, text.getvalue())
