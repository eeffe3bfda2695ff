"""The studies by name: their cells, their figures, and what has to be known to read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from siftmoe.tools.experiments.cells import Cell, Setting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a person asked of a study.

    Parameters
    ----------
    models : tuple of str
    seeds : int
    tasks : tuple of str
        The first one is scored by perplexity.
    quick : bool
        The fewest cells that still show the study.
    shared_window : bool
    """

    models: tuple[str, ...]
    seeds: int
    tasks: tuple[str, ...]
    quick: bool
    shared_window: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A policy and the values of its knob.

    Parameters
    ----------
    label : str
    template : str
        ``{}`` stands for the knob.
    values : tuple of float
        See ``Cell.value``.
    """

    label: str
    template: str
    values: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A column over another, one line per curve, one panel per model.

    Parameters
    ----------
    name : str
        Of the file.
    x, y : str
        Columns of the table.
    x_label, y_label, caption : str
    task : str or None
        Whose rows; None takes the study's first task.
    x_scale, y_scale : float
        Factor to the axis's unit.
    log_x, log_y : bool
    """

    name: str
    x: str
    y: str
    x_label: str
    y_label: str
    caption: str
    task: str | None = None
    x_scale: float = 1.0
    y_scale: float = 1.0
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One study.

    Parameters
    ----------
    title : str
    about : str
        What is varied, and which choices are this project's.
    cells : callable
        ``cells(ask)``, without seeds.
    figures : tuple of Figure
    choice : bool
        Whether multiple choice is evaluated beside the text.
    """

    title: str
    about: str
    cells: Callable[[Ask], list[Cell]]
    figures: tuple[Figure, ...]
    choice: bool = False


#: Prices, in energies of a token at the mean gain per nat: from hardly any loss to a tenth.
_PRICES = (900.0, 450.0, 220.0, 130.0, 75.0, 40.0)
_PER_WEIGHT = (100.0, 50.0, 28.0, 16.0, 10.0, 6.0)
_TOLERANCES = (0.1, 0.2, 0.3, 0.4, 0.5)
LOSSES = (0.01, 0.025, 0.05, 0.10)

PRICE = Curve(label="siftmoe price", template="siftmoe:price={}:rescale=true", values=_PRICES)
TOLERANCE = Curve(label="siftmoe per token", template="siftmoe:tolerance={}", values=_TOLERANCES)
TOPK = Curve(label="topk", template="topk")
_TOP_ONE = Curve(label="topk-1", template="topk-1")
_TOP_ONE_SCALED = Curve(label="topk-1 scaled", template="topk-1:rescale=true")
_SKIP = Curve(label="skip-only price", template="skip-only:price={}", values=_PRICES)
_GATE = Curve(label="gate-price", template="gate-price:price={}", values=_PER_WEIGHT)
_DES = Curve(label="des", template="des:threshold={}", values=(0.9, 0.8, 0.7, 0.65, 0.6, 0.55))
_WDMOE = Curve(
    label="wdmoe", template="wdmoe:min_weight={}", values=(0.1, 0.2, 0.3, 0.35, 0.4, 0.45)
)

QUALITY = (
    TOPK,
    _TOP_ONE,
    _TOP_ONE_SCALED,
    PRICE,
    Curve(
        label="siftmoe price, unscaled",
        template="siftmoe:price={}:rescale=false",
        values=_PRICES[1:5],
    ),
    _SKIP,
    TOLERANCE,
    Curve(label="siftmoe average", template="siftmoe:average={}", values=(0.02, 0.05, 0.09, 0.13)),
    Curve(label="skip-only per token", template="skip-only:tolerance={}", values=_TOLERANCES[:4]),
    _GATE,
    _DES,
    _WDMOE,
)
#: Curves compared at one stated loss where something else is varied.
AT_LOSS = (PRICE, TOLERANCE, _SKIP, _GATE, _DES, _WDMOE)


def _swept(ask: Ask, curve: Curve, setting: Setting) -> list[Cell]:
    values = curve.values[1::2] if ask.quick else curve.values
    knobs = values if curve.values else (None,)
    return [
        Cell(model=m, setting=setting, curve=curve.label, template=curve.template, value=value)
        for m in ask.models
        for value in knobs
    ]


def _at_loss(ask: Ask, curve: Curve, setting: Setting, loss: float, label: str) -> list[Cell]:
    return [
        Cell(model=m, setting=setting, curve=label, template=curve.template, loss=loss)
        for m in ask.models
    ]


def _quality(ask: Ask) -> list[Cell]:
    setting = Setting(shared_window=ask.shared_window)
    curves: Sequence[Curve] = QUALITY
    cells = [cell for curve in curves for cell in _swept(ask, curve, setting)]
    for loss in LOSSES[1:2] if ask.quick else LOSSES:
        cells += _at_loss(ask, PRICE, setting, loss, "siftmoe price, set")
    if not ask.quick:
        for curve in (_SKIP, _GATE):
            cells += _at_loss(ask, curve, setting, LOSSES[1], f"{curve.label}, set")
    return cells


_ENERGY = {"y": "uplink_j", "y_label": "uplink energy per token / nJ", "y_scale": 1e9}

STUDIES: dict[str, Study] = {
    "quality": Study(
        title="Energy at equal measured quality",
        about="Every policy swept over its knob; energy against what the model then scores.",
        cells=_quality,
        choice=True,
        figures=(
            Figure(
                name="energy-perplexity",
                x="perplexity_rise",
                x_label="rise of perplexity over Top-K / %",
                x_scale=100.0,
                y="saved",
                y_label="uplink energy saved / %",
                y_scale=100.0,
                caption="Energy saved over the rise of perplexity, against Top-K on the same seed.",
            ),
        ),
    ),
}
