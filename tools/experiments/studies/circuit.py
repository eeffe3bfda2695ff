"""The study of circuits: what is saved of all that the radio links take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from siftmoe.tools.experiments.cells.records import TYPICAL_CIRCUITS, Setting
from siftmoe.tools.experiments.studies import curves
from siftmoe.tools.experiments.studies.axes import USUAL_LOSS
from siftmoe.tools.experiments.studies.definition import Figure, Study, at_loss, swept

if TYPE_CHECKING:
    from siftmoe.tools.experiments.cells.records import Cell
    from siftmoe.tools.experiments.studies.definition import Ask

#: Circuit powers over the typical ones: from nothing over what equals the radiated power to all.
_LEVELS = (0.0, 1e-6, 1e-4, 1e-2, 1.0)

_X: dict[str, Any] = {
    "x": "circuits",
    "x_label": "power of circuits / typical",
    "by_x": True,
    "log_x": True,
}


def _cells(ask: Ask) -> list[Cell]:
    cells: list[Cell] = []
    for level in _LEVELS[::4] if ask.quick else _LEVELS:
        setting = Setting(shared_window=ask.shared_window, circuits=level)
        cells += swept(ask, curves.TOPK, setting)
        if not ask.quick:
            cells += swept(ask, curves.TOP_ONE, setting)
        for curve in (curves.PRICE, curves.JOINT):
            cells += at_loss(ask, curve, setting, USUAL_LOSS)
    return cells


CIRCUIT = Study(
    title="Circuits of transmitters and receivers",
    about="While a burst is on the air the circuits of both sides take power; bursts then end "
    f"early. Typical: {TYPICAL_CIRCUITS[0]:g} W sending, {TYPICAL_CIRCUITS[1]:g} W receiving, a "
    "model of a 2.5 GHz transceiver. Every price is set on validation text to a rise of "
    f"perplexity of {USUAL_LOSS:.1%}. 'Saved, all' is a share of all that Top-K's radio links "
    "take, circuits included, on the same circuits.",
    cells=_cells,
    figures=(
        Figure(
            name="saved-circuits",
            caption="Saved of all that the radio links take.",
            y="saved_total",
            y_label="saved of all / %",
            y_scale=100.0,
            **_X,
        ),
        Figure(
            name="radiated-circuits",
            caption="Share of the energy that is radiated.",
            y="radiated_share",
            y_label="radiated / %",
            y_scale=100.0,
            **_X,
        ),
        Figure(
            name="airtime-circuits",
            caption="Airtime of both directions.",
            y="airtime_s",
            y_label="airtime per token / ms",
            y_scale=1e3,
            log_y=True,
            **_X,
        ),
    ),
)
