"""Studies of the channel: how deep fades may be, and how far apart the helpers stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from siftmoe.tools.experiments.cells.records import Setting
from siftmoe.tools.experiments.studies import curves
from siftmoe.tools.experiments.studies.axes import RELATIVE, SAVED, USUAL_LOSS
from siftmoe.tools.experiments.studies.definition import Figure, Study, at_loss, swept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siftmoe.tools.experiments.cells.records import Cell
    from siftmoe.tools.experiments.studies.definition import Ask

#: Least gains of a Rayleigh fade over its mean: -20 to -3 dB.
FLOORS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
#: Distance of the farthest helper over that of the nearest, about 20 m.
SPREADS = (1.0, 2.0, 4.0, 8.0)


def _floor(ask: Ask) -> list[Cell]:
    floors = FLOORS[::2] if ask.quick else FLOORS
    return _compared(
        ask, [Setting(gain_floor=floor, shared_window=ask.shared_window) for floor in floors]
    )


def _distances(ask: Ask) -> list[Cell]:
    """Without fading, and with it: what distances alone give, and what both do."""
    spreads = SPREADS[::2] if ask.quick else SPREADS
    cells: list[Cell] = []
    for fading in ("rayleigh",) if ask.quick else ("rayleigh", "none"):
        settings = [
            Setting(distance_spread=spread, fading=fading, shared_window=ask.shared_window)
            for spread in spreads
        ]
        case = "no fading" if fading == "none" else f"{fading.capitalize()} fading"
        cells += _compared(ask, settings, case=case)
    return cells


def _compared(ask: Ask, settings: Sequence[Setting], *, case: str = "") -> list[Cell]:
    """Make cells that compare our selection with rivals at the usual loss."""
    chosen = (
        (curves.PRICE, curves.JOINT) if ask.quick else (curves.PRICE, curves.JOINT, curves.GATE)
    )
    cells: list[Cell] = []
    for setting in settings:
        for curve in (curves.TOPK, curves.TOP_ONE):
            cells += swept(ask, curve, setting, case=case)
        for curve in chosen:
            cells += at_loss(ask, curve, setting, USUAL_LOSS, case=case)
    return cells


def _figures(column: str, label: str) -> tuple[Figure, ...]:
    x: dict[str, Any] = {"x": column, "x_label": label, "by_x": True, "log_x": True}
    return (
        Figure(
            name=f"saved-{column}",
            caption="Energy of both directions saved against Top-K on the same channel.",
            **x,
            **SAVED,
        ),
        Figure(
            name=f"relative-{column}",
            caption="Energy of both directions over Top-K's on the same channel.",
            **x,
            **RELATIVE,
        ),
        Figure(
            name=f"energy-{column}",
            y="radio_j",
            y_label="energy of both directions per token / J",
            log_y=True,
            caption="Energy of both directions per token.",
            **x,
        ),
        Figure(
            name=f"perplexity-{column}",
            y="perplexity_rise",
            y_label="rise of perplexity over Top-K / %",
            y_scale=100.0,
            caption="Perplexity measured on the test text.",
            **x,
        ),
    )


_SET = (
    f"Every price is set on validation text to a rise of perplexity of {USUAL_LOSS:.1%} at each "
    "point; Top-1 has no knob."
)

FLOOR = Study(
    title="Energy over the gain floor",
    about="The mean energy of sending through Rayleigh fades of any depth does not exist, so those "
    "deeper than a floor are cut, and how deep it is decides what a selection of links can save. "
    f"{_SET} Our choice of floor elsewhere is 0.05.",
    cells=_floor,
    figures=_figures("gain_floor", "gain floor over the mean gain"),
)
DISTANCES = Study(
    title="Energy over the spread of the helpers' distances",
    about="Helpers stand geometrically spread about 20 m, so that the mean of their gains in dB is "
    "the same at every spread; nothing is moved but the helpers, and which expert stands where is "
    f"round robin. {_SET}",
    cells=_distances,
    figures=_figures("distance_spread", "distance of the farthest helper over the nearest's"),
)
