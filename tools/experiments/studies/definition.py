"""Parts of a study: curves of policies, figures, and the cells made from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from siftmoe.tools.experiments.cells.records import Cell

if TYPE_CHECKING:
    from collections.abc import Callable

    from siftmoe.tools.experiments.cells.records import Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Options of a study that its cells depend on.

    Parameters
    ----------
    models : tuple of str
    seeds : int
    tasks : tuple of str
        The first one is scored by perplexity.
    quick : bool
        Use the fewest cells that still show the study's effect.
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
        Task whose rows are drawn; None takes every task that has both columns.
    by_x : bool
        Whether x is the varied quantity; otherwise a point is one value of the policy's knob.
    x_scale, y_scale : float
        Factor to the axis's unit.
    x_max : float or None
        Upper end of the axis, in its unit.
    log_x, log_y : bool
    frontier : "least", "most" or None
        Which end of y is better, where the best of all curves together is drawn as a line.
    """

    name: str
    x: str
    y: str
    x_label: str
    y_label: str
    caption: str
    task: str | None = None
    by_x: bool = False
    x_scale: float = 1.0
    y_scale: float = 1.0
    x_max: float | None = None
    log_x: bool = False
    log_y: bool = False
    frontier: Literal["least", "most"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One study.

    Parameters
    ----------
    title : str
    about : str
        The varied quantity, and which choices are this project's.
    cells : callable
        ``cells(ask)``, without seeds.
    figures : tuple of Figure
    choice : bool
        Whether multiple choice is evaluated beside the text.
    baselines : tuple of str
        Curves with the best of which, at each loss, the others' energies are also compared.
    """

    title: str
    about: str
    cells: Callable[[Ask], list[Cell]]
    figures: tuple[Figure, ...]
    choice: bool = False
    baselines: tuple[str, ...] = ()


def swept(
    ask: Ask, curve: Curve, setting: Setting, *, case: str = "", label: str | None = None
) -> list[Cell]:
    """Make the cells of a curve under one setting, without seeds; fewer with ``quick``."""
    values = curve.values[1::2] if ask.quick and len(curve.values) > 1 else curve.values
    return [
        Cell(
            model=model,
            setting=setting,
            case=case,
            curve=label or curve.label,
            template=curve.template,
            value=value,
        )
        for model in ask.models
        for value in (values or (None,))
    ]


def at_loss(
    ask: Ask,
    curve: Curve,
    setting: Setting,
    loss: float,
    *,
    label: str | None = None,
    case: str = "",
) -> list[Cell]:
    """Make a curve's cell with its knob set to a loss on validation text."""
    return [
        Cell(
            model=model,
            setting=setting,
            case=case,
            curve=label or curve.label,
            template=curve.template,
            loss=loss,
        )
        for model in ask.models
    ]
