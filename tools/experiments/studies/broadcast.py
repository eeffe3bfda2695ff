"""The study of the medium: a band for each helper, or one for all with or without broadcast."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from siftmoe.tools.experiments.cells.records import Setting
from siftmoe.tools.experiments.studies import curves
from siftmoe.tools.experiments.studies.axes import PERCENT, RELATIVE, SAVED
from siftmoe.tools.experiments.studies.definition import Figure, Study, swept

if TYPE_CHECKING:
    from siftmoe.tools.experiments.cells.records import Cell
    from siftmoe.tools.experiments.studies.definition import Ask, Curve

MEDIA = ("unicast", "tdma", "broadcast")
#: A window for each token, as the first trial of broadcasting had it; counted by the uplink.
OWN_WINDOWS = "16 bits, uplink minimised, a window for each token"


def _cases() -> dict[str, tuple[str, Curve]]:
    wide = replace(curves.PRICE, label="siftmoe", values=(900.0, 450.0, 300.0, 200.0))
    both = replace(wide, values=(1800.0, 900.0, 600.0, 400.0))
    joint = replace(curves.JOINT, label="siftmoe", values=(400.0, 200.0, 120.0, 70.0))
    return {
        "16 bits, uplink minimised": ("user", wide),
        OWN_WINDOWS: ("user", wide),
        "16 bits, both directions minimised": ("total", both),
        "widths chosen, both directions minimised": ("total", joint),
    }


def _cells(ask: Ask) -> list[Cell]:
    cells: list[Cell] = []
    for case, (minimise, curve) in _cases().items():
        shared = ask.shared_window and case != OWN_WINDOWS
        base = Setting(shared_window=shared, minimise=minimise)
        for uplink in MEDIA:
            setting = msgspec.structs.replace(base, uplink=uplink)
            top = "topk" if uplink == "unicast" else f"topk, {uplink}"
            cells += swept(ask, curves.TOPK, setting, case=case, label=top)
            cells += swept(ask, curve, setting, case=case, label=f"{curve.label}, {uplink}")
    return cells


BROADCAST = Study(
    title="Broadcast in one band against a band for each helper",
    about="The reference is Top-2 at 16 bits in 'unicast': eight bands, one for each helper, all "
    "for the whole window. 'tdma' and 'broadcast' have one of these bands for all requests and "
    "one for all answers. By 'tdma' every helper is sent its tokens apart; a broadcast token is "
    "sent once for all its helpers. Answers follow each other in time in either. Two cases "
    "minimise the uplink alone and are to be read by it ('saved_uplink'); the others minimise and "
    "count both directions, control included. One band and its sharing are this project's.",
    cells=_cells,
    figures=(
        Figure(
            name="energy-perplexity",
            caption="Energy of both directions over the rise of perplexity.",
            **{**PERCENT, "x_max": 12.0},
            **RELATIVE,
        ),
        Figure(
            name="saved-perplexity",
            caption="Energy of both directions saved over the rise of perplexity.",
            **{**PERCENT, "x_max": 12.0},
            **SAVED,
        ),
        Figure(
            name="saved-uplink-perplexity",
            y="saved_uplink",
            y_label="uplink energy saved / %",
            y_scale=100.0,
            caption="Uplink energy saved over the rise of perplexity.",
            **{**PERCENT, "x_max": 12.0},
        ),
    ),
)
