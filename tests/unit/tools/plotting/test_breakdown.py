"""Figures of decisions by layer and of energy by helper."""

from __future__ import annotations

import pytest

from siftmoe.tools.plotting.breakdown import draw_helpers, draw_layers
from siftmoe.tools.results.breakdown import Breakdown, LayerShares


def _part(layers: int, helpers: int) -> Breakdown:
    share = LayerShares(kept=0.5, replaced=0.3, skipped=0.2, energy_j=2e-9)
    return Breakdown(
        layers=(share,) * layers,
        helpers={f"board-{n}": (1e-9 * (n + 1), 5e-10) for n in range(helpers)},
    )


def test_every_layer_and_every_helper_is_drawn() -> None:
    parts = {"topk": _part(4, 8), "siftmoe:loss=0.025:bits=auto:rescale=true": _part(4, 3)}
    layers, helpers = draw_layers(parts), draw_helpers(parts)
    assert layers is not None
    assert helpers is not None
    assert layers.svg.count("<!-- 2 nJ -->") == 8
    assert {f"<!-- board-{n} -->" in helpers.svg for n in range(8)} == {True}


def test_the_bars_of_many_layers_have_no_labels() -> None:
    drawn = draw_layers({"deep": _part(48, 1)})
    assert drawn is not None
    assert "nJ" not in drawn.svg


def test_helpers_are_drawn_to_one_scale() -> None:
    drawn = draw_helpers({"a": _part(1, 2), "b": _part(1, 8)})
    assert drawn is not None
    first, second = drawn.canvas.axes
    assert first.get_ylim() == second.get_ylim()
    heights = [bar.get_height() for bar in first.patches]
    assert heights == pytest.approx([1.0, 2.0, 0.5, 0.5])


def test_nothing_is_drawn_of_nothing() -> None:
    assert draw_layers({"topk": Breakdown()}) is draw_helpers({}) is None
