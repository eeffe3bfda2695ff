"""Draws what was decided in each layer, and what each helper's link radiated."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Canvas

from siftmoe.tools.plotting.mix import Drawn
from siftmoe.tools.plotting.run import COLOURS, NO_METADATA, STYLE, in_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from siftmoe.tools.results.breakdown import Breakdown

#: Sizes in inches: a panel, and the legend below.
_PANEL = (3.4, 2.8)
_LEGEND = 0.25
_MOST_ACROSS = 2
#: The energies of more layers than this do not fit beside each other.
_MOST_LABELS = 8
_DECISIONS = ("kept", "replaced", "skipped")
_DIRECTIONS = ("uplink", "answers")


def draw_layers(parts: Mapping[str, Breakdown]) -> Drawn | None:
    """Draw the decisions of every layer, one panel per title; its energy per token stands above.

    Parameters
    ----------
    parts : mapping
        By the panel's title; those without a layer are left out.

    Returns
    -------
    Drawn or None
        None where nothing was decided.
    """
    return _draw({name: part for name, part in parts.items() if part.layers}, _layers)


def draw_helpers(parts: Mapping[str, Breakdown]) -> Drawn | None:
    """Draw the energy of every helper's link in both directions, one panel per title, to one scale.

    Parameters
    ----------
    parts : mapping
        By the panel's title; those that sent nothing are left out.

    Returns
    -------
    Drawn or None
        None where nothing was sent.
    """
    sent = {name: part for name, part in parts.items() if part.helpers}
    return _draw(sent, _helpers, same_scale=True)


def _draw(
    parts: Mapping[str, Breakdown], panel_of: Callable[..., None], *, same_scale: bool = False
) -> Drawn | None:
    if not parts:
        return None
    across = min(len(parts), _MOST_ACROSS)
    down = math.ceil(len(parts) / across)
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(_PANEL[0] * across, _PANEL[1] * down + _LEGEND))
        panels = canvas.subplots(down, across, squeeze=False, sharey=same_scale).ravel()
        for panel, (title, part) in zip(panels, parts.items(), strict=False):
            panel_of(panel, part)
            panel.set_title("\n".join(in_lines(line) for line in title.splitlines()))
        for panel in panels[len(parts) :]:
            panel.remove()
        handles, labels = panels[0].get_legend_handles_labels()
        canvas.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        text = io.StringIO()
        canvas.savefig(text, format="svg", metadata=NO_METADATA)
    return Drawn(canvas, text.getvalue())


def _layers(panel: Any, part: Breakdown) -> None:
    place = np.arange(len(part.layers))
    below = np.zeros(len(part.layers))
    for colour, name in zip(COLOURS, _DECISIONS, strict=False):
        shares = np.array([100.0 * getattr(layer, name) for layer in part.layers])
        panel.bar(place, shares, bottom=below, color=colour, label=name, width=0.7)
        below += shares
    panel.set_xlabel("expert layer")
    panel.set_ylabel("slots / %")
    panel.set_ylim(0.0, 112.0)
    panel.set_yticks(range(0, 101, 20))
    if len(part.layers) > _MOST_LABELS:
        return
    for x, layer in zip(place, part.layers, strict=True):
        panel.text(x, 101.0, f"{1e9 * layer.energy_j:.2g} nJ", ha="center", va="bottom", size=7)


def _helpers(panel: Any, part: Breakdown) -> None:
    place = np.arange(len(part.helpers))
    below = np.zeros(len(part.helpers))
    for index, (colour, name) in enumerate(zip(COLOURS, _DIRECTIONS, strict=False)):
        energy = np.array([1e9 * sent[index] for sent in part.helpers.values()])
        panel.bar(place, energy, bottom=below, color=colour, label=name, width=0.7)
        below += energy
    panel.set_xticks(place, list(part.helpers), rotation=60, ha="right")
    panel.set_ylabel("energy per token / nJ")
