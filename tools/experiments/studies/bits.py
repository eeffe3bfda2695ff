"""The study of widths: chosen jointly with helper and expert, by the channel, or uniform."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from siftmoe.coordinator.air.assembly import PAPER_BITS_PER_HERTZ
from siftmoe.tools.experiments.cells.records import Setting
from siftmoe.tools.experiments.studies import curves
from siftmoe.tools.experiments.studies.axes import PERCENT, RELATIVE, SAVED, USUAL_LOSS
from siftmoe.tools.experiments.studies.definition import Figure, Study, at_loss, swept

if TYPE_CHECKING:
    from siftmoe.tools.experiments.cells.records import Cell
    from siftmoe.tools.experiments.studies.definition import Ask

#: Deadline of a token of 128 entries of 16 bit over 2 MHz at the paper's 0.44 bit/s/Hz.
_PAPER_DEADLINE_S = 128 * 16 / (2e6 * PAPER_BITS_PER_HERTZ)
#: 2 MHz per helper as the paper's deadline asks for, and a hundred times that: 0.0044 bit/s/Hz,
#: where energy grows with the bits.
_WIDE_BAND_HZ = 200e6


def _cells(ask: Ask) -> list[Cell]:
    cases = {"shared window": Setting(shared_window=True)}
    if not ask.quick:
        own = Setting(shared_window=False)
        cases |= {
            "window of its own": own,
            "linear energy": msgspec.structs.replace(
                own, bandwidth_hz=_WIDE_BAND_HZ, deadline_s=_PAPER_DEADLINE_S
            ),
        }
    cells: list[Cell] = []
    for case, setting in cases.items():
        chosen = [curves.TOPK, curves.UNIFORM, curves.CHANNEL, curves.JOINT]
        if setting.shared_window:
            chosen += [curves.FIXED[3]] if ask.quick else curves.FIXED
        if setting.shared_window and not ask.quick:
            chosen += [curves.JOINT_UP, curves.CHANNEL_SCALED, curves.JOINT_SKIP]
        elif not setting.shared_window:  # fewer prices, since the study varies the air
            chosen[2:] = [replace(curve, values=curve.values[::2]) for curve in chosen[2:]]
        for curve in chosen:
            cells += swept(ask, curve, setting, case=case)
        if ask.quick:
            continue
        for loss in (0.01, USUAL_LOSS):
            for curve in (curves.CHANNEL, curves.JOINT):
                label = f"{curve.label}, set"
                cells += at_loss(ask, curve, setting, loss, label=label, case=case)
    return cells


BITS = Study(
    title="Widths chosen with helper and expert",
    about="Every vector is sent in few bits an entry. 'Joint' chooses helper, expert and widths of "
    "every vector together, to the helper and back, at least energy of both directions; 'N up M "
    "back' selects as well, but every vector goes out in N bits and comes back in M; 'width by "
    "channel' keeps every expert and looks at the channel alone ('scaled': with the least-squares "
    "factors of the profile); 'uniform width' keeps every expert at one width, with answers in 8 "
    "bits, Top-2's at 16. The model's own "
    "hidden size, so that steps and padding weigh as on the wire. Prices that are 'set' were "
    "chosen on validation text; everything shown is of the test text.",
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
