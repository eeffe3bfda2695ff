"""The study of placement: experts in turn, chosen, and chosen with replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siftmoe.tools.experiments.cells.records import Setting
from siftmoe.tools.experiments.studies import curves
from siftmoe.tools.experiments.studies.axes import ENERGY, PERCENT, USUAL_LOSS
from siftmoe.tools.experiments.studies.definition import Figure, Study, at_loss, swept

if TYPE_CHECKING:
    from typing import Any

    from siftmoe.tools.experiments.cells.records import Cell
    from siftmoe.tools.experiments.studies.definition import Ask

#: Eight helpers, 7 to 40 m, geometric: 23 dB between the nearest and the farthest at exponent 3.
#: In no order, so that in turn the nearest do not get the experts of one end.
DISTANCES_M = (15.5, 40.0, 9.2, 24.2, 7.0, 31.1, 19.4, 12.0)
#: Twice what a helper needs to hold its even share of the bundled models: 4 layers of 8 experts.
_MEMORY = 8

#: Label, and what it changes; the first one is every other's reference.
_PLACEMENTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("", {}),
    ("in turn, 2 hosts", {"most_hosts": 2}),
    ("placed, 1 host", {"placement": "energy"}),
    ("placed", {"placement": "energy", "most_hosts": 8}),
    ("placed by loss", {"placement": "loss", "most_hosts": 8}),
)


def _cells(ask: Ask) -> list[Cell]:
    cells: list[Cell] = []
    for label, changes in _PLACEMENTS[::3] if ask.quick else _PLACEMENTS:
        setting = Setting(
            shared_window=ask.shared_window,
            distances_m=DISTANCES_M,
            memory_experts=_MEMORY if "placement" in changes else 0,
            **changes,
        )
        # in turn with one host each is the reference, which keeps the policy's own label
        end = f", {label}" if label else ""
        cells += swept(ask, curves.TOPK, setting, label=f"{curves.TOPK.label}{end}")
        for curve in (curves.PRICE,) if ask.quick else (curves.PRICE, curves.JOINT):
            cells += at_loss(ask, curve, setting, USUAL_LOSS, label=f"{curve.label}{end}")
    return cells


PLACEMENT = Study(
    title="Placement of the experts",
    about="Eight helpers at 7 to 40 m. Experts lie in turn (one host each, or two), or are placed "
    "by routing counts and links: one host each, with replicas, or with replicas by energy and "
    f"priced loss; a placed helper holds up to {_MEMORY} experts, as with two hosts in turn. "
    f"Every price is set on validation text to a rise of perplexity of {USUAL_LOSS:.1%}; 'saved' "
    "is a share of the energy of both directions of Top-K with one host each in turn. The "
    "placement is ours.",
    cells=_cells,
    figures=(
        Figure(
            name="energy-perplexity",
            caption="Energy of both directions over the rise of perplexity.",
            **PERCENT,
            **ENERGY,
        ),
    ),
)
