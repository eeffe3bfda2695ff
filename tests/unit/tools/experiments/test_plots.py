"""The frontier of a study: what no other point beats in both quantities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure as Canvas

from siftmoe.tools.experiments import plots
from siftmoe.tools.experiments.plots import draw
from siftmoe.tools.experiments.studies.definition import Figure

if TYPE_CHECKING:
    from pathlib import Path


def _row(curve: str, knob: float, rise: float, energy_j: float) -> dict[str, Any]:
    place = {"model": "tiny", "case": "", "task": "text", "stated_loss": None}
    return place | {"curve": curve, "knob": knob, "perplexity_rise": rise, "radio_j": energy_j}


def _figure(frontier: Any) -> Figure:
    return Figure(
        name="trade",
        x="perplexity_rise",
        y="radio_j",
        x_label="rise",
        y_label="J",
        caption="",
        frontier=frontier,
    )


@pytest.mark.parametrize(
    ("frontier", "expected"),
    [("least", [(1.0, 5.0), (2.0, 3.0), (4.0, 1.0)]), ("most", [(1.0, 5.0), (3.0, 6.0)])],
)
def test_the_frontier_has_the_best_points_of_all_curves(frontier: str, expected: Any) -> None:
    rows = [
        _row("a", 1, 1.0, 5.0),
        _row("a", 2, 3.0, 6.0),
        _row("b", 1, 2.0, 3.0),
        _row("b", 2, 4.0, 1.0),
    ]
    with mpl.rc_context(plots.STYLE):
        panel = Canvas().subplots()
        plots._draw_panel(panel, _figure(frontier), rows, {"a": 0, "b": 1})
    (line,) = [one for one in panel.get_lines() if one.get_label() == "frontier"]
    assert list(zip(*line.get_data(), strict=True)) == expected


def test_a_figure_without_a_frontier_has_none(tmp_path: Path) -> None:
    rows = [_row("a", 1, 1.0, 5.0), _row("a", 2, 2.0, 4.0)]
    svg = draw(_figure(None), rows, tmp_path)
    assert svg is not None
    assert "frontier" not in svg
    assert (tmp_path / "trade.png").stat().st_size > 0
