"""Says on which channel, and at which operating point, the cells of a study ran."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siftmoe.coordinator.air.assembly import PAPER_BITS_PER_HERTZ
from siftmoe.coordinator.air.operating_points import REFERENCE_WIDTH, point_near
from siftmoe.coordinator.links.sources import SIMULATED
from siftmoe.tools.showing.captions import floor_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from siftmoe.tools.experiments.cells.records import Cell, Setting


def channel_of(cells: Sequence[Cell]) -> str:
    """Describe fading and its floor, coherence, distances and deadlines of a study's cells.

    A quantity that the study varies is given with all its values.
    """
    settings = [cell.setting for cell in cells]
    if any(setting.links != SIMULATED for setting in settings):
        return f"Links from {settings[0].links}."
    parts = [_fading, _coherence, _distances, _deadline]
    return "Channel: " + "; ".join(_each(part, settings) for part in parts) + "."


def _each(words: Callable[[Setting], str], settings: Sequence[Setting]) -> str:
    return " or ".join(dict.fromkeys(words(setting) for setting in settings))


def _fading(setting: Setting) -> str:
    if setting.fading == "none":
        return "no fading"
    return f"{setting.fading.capitalize()} fading, {floor_text(setting.gain_floor)}"


def _coherence(setting: Setting) -> str:
    if setting.slots:
        return f"{setting.slots} blocks of independent gain in a window"
    return f"constant over a layer and redrawn per layer (blocks of {setting.coherence_time_s:g} s)"


def _distances(setting: Setting) -> str:
    where = setting.where_m()
    if min(where) == max(where):
        return f"helpers at {where[0]:g} m"
    return f"helpers at {min(where):.3g} to {max(where):.3g} m"


def _deadline(setting: Setting) -> str:
    density = PAPER_BITS_PER_HERTZ
    if setting.deadline_s is not None:
        if setting.hidden_size is None:
            return f"deadline {setting.deadline_s:g} s per {setting.deadline_per}"
        bits = setting.hidden_size * REFERENCE_WIDTH
        density = bits / (setting.bandwidth_hz * setting.deadline_s)
    point = point_near(density)
    whose = f", our reading of the paper's {point.words}" if point is not None else ""
    return f"{density:.2g} bit/s/Hz for a token, deadline per {setting.deadline_per}{whose}"
