"""Catalogue of the studies."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec

from siftmoe.coordinator.air.operating_points import MIXTRAL_CSQA, SWITCH_XSUM
from siftmoe.tools.experiments.cells.records import SELECTIONS, Setting
from siftmoe.tools.experiments.studies import curves
from siftmoe.tools.experiments.studies.axes import (
    ENERGY,
    LOSSES,
    PERCENT,
    RELATIVE,
    SAVED,
    USUAL_LOSS,
)
from siftmoe.tools.experiments.studies.bits import BITS
from siftmoe.tools.experiments.studies.broadcast import BROADCAST
from siftmoe.tools.experiments.studies.channel import DISTANCES, FLOOR
from siftmoe.tools.experiments.studies.circuit import CIRCUIT
from siftmoe.tools.experiments.studies.definition import Figure, Study, at_loss, swept
from siftmoe.tools.experiments.studies.placement import PLACEMENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from siftmoe.coordinator.air.operating_points import OperatingPoint
    from siftmoe.tools.experiments.cells.records import Cell
    from siftmoe.tools.experiments.studies.definition import Ask


def _token_of(point: OperatingPoint) -> dict[str, Any]:
    """Fields of a setting in which a token is that of one of the paper's, read per token."""
    return {
        "hidden_size": point.hidden_size,
        "bandwidth_hz": point.bandwidth_hz,
        "deadline_s": point.deadline_s,
    }


#: 0.44 and 0.018 bit/s/Hz.
_MIXTRAL, _SWITCH = _token_of(MIXTRAL_CSQA), _token_of(SWITCH_XSUM)


def _quality(ask: Ask) -> list[Cell]:
    setting = Setting(shared_window=ask.shared_window)
    chosen = (curves.TOPK, curves.TOP_ONE, curves.PRICE, curves.TOLERANCE, curves.GATE)
    cells = _flat(swept(ask, c, setting) for c in (chosen if ask.quick else curves.ALL))
    losses = (USUAL_LOSS,) if ask.quick else LOSSES
    for loss in losses:
        cells += at_loss(ask, curves.PRICE, setting, loss, label="siftmoe price, set")
    if not ask.quick:
        for curve in (curves.SKIP, curves.GATE):
            cells += at_loss(ask, curve, setting, USUAL_LOSS, label=f"{curve.label}, set")
    return cells


def _tolerance(ask: Ask) -> list[Cell]:
    chosen = (
        curves.TOPK,
        curves.TOP_ONE,
        curves.TOLERANCE,
        curves.TOLERANCE_SCALED,
        curves.SKIP_TOLERANCE,
        curves.AVERAGE,
    )
    cases = {"Mixtral's token": _MIXTRAL, "Switch's token": _SWITCH}
    return _flat(
        swept(ask, curve, Setting(**air, shared_window=ask.shared_window), case=case)
        for case, air in cases.items()
        for curve in (chosen[:3] if ask.quick else chosen)
    )


def _varied(ask: Ask, settings: Sequence[Setting]) -> list[Cell]:
    """Make cells that compare all policies at the default loss under several settings."""
    chosen = (curves.PRICE, curves.TOLERANCE) if ask.quick else curves.AT_LOSS
    shown = settings[1::2] if ask.quick else settings
    return [
        *_flat(swept(ask, c, s) for s in shown for c in (curves.TOPK, curves.TOP_ONE)),
        *_flat(at_loss(ask, curve, s, USUAL_LOSS) for s in shown for curve in chosen),
    ]


def _bandwidth(ask: Ask) -> list[Cell]:
    bands = (0.5e6, 1e6, 2e6, 4e6, 8e6)
    return _varied(ask, [_mixtral(ask, bandwidth_hz=band) for band in bands])


def _deadline(ask: Ask) -> list[Cell]:
    deadlines = (0.0185, 0.037, 0.074, 0.148, 0.296)
    return _varied(ask, [_mixtral(ask, deadline_s=deadline) for deadline in deadlines])


def _helpers(ask: Ask) -> list[Cell]:
    return _varied(ask, [_mixtral(ask, num_helpers=count) for count in (1, 2, 4, 8, 16)])


def _latency(ask: Ask) -> list[Cell]:
    setting = _mixtral(ask, distance_m=100.0, tx_power_limit_w=0.1, with_compute=True)
    chosen = (
        curves.TOPK,
        curves.TOP_ONE,
        curves.WDMOE,
        curves.WDMOE_COSINE,
        curves.PRICE,
        curves.TOLERANCE,
        curves.DES,
    )
    return _flat(swept(ask, curve, setting) for curve in (chosen[:3] if ask.quick else chosen))


def _fading(ask: Ask) -> list[Cell]:
    counts = (1, 2, 5, 10, 20)
    cells: list[Cell] = []
    for count in counts[1::2] if ask.quick else counts:
        still = _mixtral(ask, slots=count, gain_floor=0.0)
        cells += [*swept(ask, curves.TOPK, still), *swept(ask, curves.TOP_ONE, still)]
        for rule in SELECTIONS[:2] if ask.quick else SELECTIONS:
            setting = msgspec.structs.replace(still, selection=rule)
            cells += at_loss(ask, curves.PRICE, setting, USUAL_LOSS, label=f"siftmoe, {rule}")
    return cells


def _bound(ask: Ask) -> list[Cell]:
    setting = Setting(shared_window=ask.shared_window, audit=True)
    return swept(ask, curves.TOLERANCE, setting)


def _mixtral(ask: Ask, **changes: Any) -> Setting:
    return Setting(**{**_MIXTRAL, "shared_window": ask.shared_window, **changes})


def _flat(parts: Iterable[list[Cell]]) -> list[Cell]:
    return list(chain.from_iterable(parts))


def _over(column: str, label: str, **axis: Any) -> tuple[Figure, ...]:
    """Figures of energy and of perplexity over the varied quantity."""
    x = {"x": column, "x_label": label, "by_x": True, **axis}
    return (
        Figure(
            name=f"energy-{column}", caption="Energy of both directions per token.", **x, **ENERGY
        ),
        Figure(name=f"saved-{column}", caption="Energy saved against Top-K.", **x, **SAVED),
        Figure(
            name=f"perplexity-{column}",
            y="perplexity_rise",
            y_label="rise of perplexity over Top-K / %",
            y_scale=100.0,
            caption="Perplexity measured on the test text.",
            **x,
        ),
    )


_AT_LOSS_ABOUT = (
    f"Every knob is set on validation text to a rise of perplexity of {USUAL_LOSS:.1%} at each "
    "point; Top-1 has no knob. A token is Mixtral's: 4096 entries of 16 bit."
)

STUDIES: dict[str, Study] = {
    "bits": BITS,
    "placement": PLACEMENT,
    "broadcast": BROADCAST,
    "floor": FLOOR,
    "distances": DISTANCES,
    "circuit": CIRCUIT,
    "quality": Study(
        title="Energy at equal measured quality",
        about="Every policy swept over its knob; energy against what the model then scores. "
        "'Set': price chosen on validation text for a stated loss, measured on test text.",
        cells=_quality,
        choice=True,
        figures=(
            Figure(
                name="saved-perplexity",
                caption="Energy saved over the rise of perplexity.",
                frontier="most",
                **PERCENT,
                **SAVED,
            ),
            Figure(
                name="energy-next-token",
                x="next_token_accuracy",
                x_label="next-token accuracy",
                caption="Energy over next-token accuracy.",
                **RELATIVE,
            ),
            Figure(
                name="energy-choice",
                x="accuracy",
                x_label="accuracy, multiple choice",
                caption="Energy over accuracy in multiple choice.",
                **RELATIVE,
            ),
        ),
    ),
    "tolerance": Study(
        title="Energy and accuracy over the tolerable error of a layer",
        about="The paper's figures 3 and 4 in kind. The tolerance is a share of the layer's mean "
        "output norm. Mixtral's 2 MHz and 0.074 s, and Switch's 1 MHz and 0.7 s, are the "
        "paper's; that a deadline is a token's is our reading. Routing and similarities are those "
        "of the model named.",
        cells=_tolerance,
        choice=True,
        figures=tuple(
            Figure(
                name=f"{name}-tolerance",
                x="knob",
                x_label="tolerable error per layer / layer norm",
                y=column,
                y_label=label,
                caption=caption,
                log_y=name == "energy",
            )
            for name, column, label, caption in (
                (
                    "energy",
                    "radio_j",
                    "energy of both directions per token / J",
                    "Both directions.",
                ),
                ("accuracy", "accuracy", "accuracy, multiple choice", "Multiple choice."),
                ("next-token", "next_token_accuracy", "next-token accuracy", "Next token."),
                ("perplexity", "perplexity", "perplexity", "Perplexity."),
            )
        ),
    ),
    "bandwidth": Study(
        title="Energy over the bandwidth of a link",
        about=_AT_LOSS_ABOUT + " The deadline is 0.074 s throughout.",
        cells=_bandwidth,
        figures=_over("bandwidth_hz", "bandwidth / MHz", x_scale=1e-6, log_x=True),
    ),
    "deadline": Study(
        title="Energy over the deadline of a token",
        about=_AT_LOSS_ABOUT + " The bandwidth is 2 MHz throughout.",
        cells=_deadline,
        figures=_over("deadline_s", "deadline of a token / ms", x_scale=1e3, log_x=True),
    ),
    "helpers": Study(
        title="Energy over the number of helpers",
        about=_AT_LOSS_ABOUT + " Helpers share the experts in turn; beyond one helper per expert, "
        "experts have replicas.",
        cells=_helpers,
        figures=_over("num_helpers", "helpers", log_x=True),
    ),
    "fading": Study(
        title="Speed of fading",
        about="A burst's window spans M coherence blocks whose gains become known one by one; "
        "what it sends when is the causal optimum, and tokens not delivered are lost to the "
        "model. Rayleigh, no floor. Helpers are chosen by one of three energies, each at a price "
        f"set on validation text to a rise of perplexity of {USUAL_LOSS:.1%} over Top-K on the "
        "same channel.",
        cells=_fading,
        figures=(
            *_over("slots", "coherence blocks in a window", log_x=True),
            Figure(
                name="outage-slots",
                x="slots",
                x_label="coherence blocks in a window",
                y="outage",
                y_label="tokens not delivered / %",
                y_scale=100.0,
                by_x=True,
                log_x=True,
                caption="Share of transmissions that missed their window.",
            ),
        ),
    ),
    "latency": Study(
        title="Latency of attention waiting for the slowest helper",
        about="WDMoE's kind: every side at full power, 0.1 W over 100 m; the band of all helpers "
        "divided evenly or for the least latency. Mixtral's token; compute of the model named.",
        cells=_latency,
        figures=tuple(
            Figure(
                name=f"latency-{name}",
                y=f"latency_{name}_s",
                y_label="latency per token / ms",
                y_scale=1e3,
                caption=f"Latency with the band divided {words}.",
                **PERCENT,
            )
            for name, words in (("optimal", "for the least latency"), ("uniform", "evenly"))
        ),
    ),
    "bound": Study(
        title="Deviation measured against its bound",
        about="The undivided output of every layer is recomputed. Bounds are of mean deviations, "
        "so a share of tokens is beyond them; 'deviating' leaves out tokens of which every slot "
        "is kept.",
        cells=_bound,
        figures=tuple(
            Figure(
                name=name,
                x="knob",
                x_label="tolerable error per layer / layer norm",
                y=column,
                y_label=label,
                y_scale=scale,
                caption=caption,
            )
            for name, column, label, scale, caption in (
                ("within", "within", "tokens within their bound / %", 100.0, "All tokens."),
                (
                    "within-deviating",
                    "within_deviating",
                    "deviating tokens within their bound / %",
                    100.0,
                    "Tokens with a replaced or skipped slot.",
                ),
                ("ratio", "measured_over_bound", "measured / bound", 1.0, "Means over tokens."),
            )
        ),
    ),
}
