"""The study of widths: chosen jointly with helper and expert, by the channel, or uniform."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from siftmoe.tools.experiments.cells.records import Setting
from siftmoe.tools.experiments.studies import curves
from siftmoe.tools.experiments.studies.axes import PERCENT, RELATIVE, SAVED, USUAL_LOSS
from siftmoe.tools.experiments.studies.definition import Figure, Study, at_loss, swept

if TYPE_CHECKING:
    from siftmoe.tools.experiments.cells.records import Cell
    from siftmoe.tools.experiments.studies.definition import Ask


def _cells(ask: Ask) -> list[Cell]:
    setting = Setting(shared_window=ask.shared_window)
    chosen = [curves.TOPK, curves.UNIFORM, curves.CHANNEL, curves.JOINT]
    chosen += [curves.FIXED[-1]] if ask.quick else [*curves.FIXED, curves.JOINT_UP]
    cells = list(chain.from_iterable(swept(ask, curve, setting) for curve in chosen))
    if not ask.quick:
        cells += at_loss(ask, curves.JOINT, setting, USUAL_LOSS, label=f"{curves.JOINT.label}, set")
    return cells


BITS = Study(
    title="Widths chosen with helper and expert",
    about="Every vector is sent in few bits an entry. 'Joint' chooses helper, expert and widths of "
    "every vector together, to the helper and back, at least energy of both directions; '8 back' "
    "chooses the width to the helper only; 'N up M back' selects as well, but every vector goes "
    "out in N bits and comes back in M; 'width by channel' keeps every expert and looks at the "
    "channel alone; 'uniform width' keeps every expert at one width, with answers in 8 bits, "
    "Top-2's in 16. The model's own hidden size, so that steps and padding weigh as on the wire. "
    "A price that is 'set' was chosen on validation text; everything shown is of the test text.",
    cells=_cells,
    choice=True,
    baselines=tuple(curve.label for curve in curves.FIXED),
    figures=(
        Figure(
            name="energy-perplexity",
            caption="Energy of both directions over the rise of perplexity.",
            **{**PERCENT, "x_max": 12.0},
            frontier="least",
            **RELATIVE,
        ),
        Figure(
            name="saved-perplexity",
            caption="Energy of both directions saved over the rise of perplexity.",
            **{**PERCENT, "x_max": 12.0},
            frontier="most",
            **SAVED,
        ),
        Figure(
            name="energy-choice",
            x="accuracy",
            x_label="accuracy, multiple choice",
            caption="Energy over accuracy in multiple choice.",
            **RELATIVE,
        ),
        Figure(
            name="energy-next-token",
            x="next_token_accuracy",
            x_label="next-token accuracy",
            caption="Energy over next-token accuracy.",
            **RELATIVE,
        ),
    ),
)
