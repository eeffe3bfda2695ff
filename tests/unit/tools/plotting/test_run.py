"""Figures of a run, whatever its policies are called."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from siftmoe.tools.plotting.run import figures, in_lines
from siftmoe.tools.results.policies import load_results

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("policy", "lines"),
    [
        ("topk", ["topk"]),
        ("siftmoe:loss=0.025", ["siftmoe:loss=0.025"]),
        (
            "siftmoe:bits=auto:loss=0.5:rescale=true",
            ["siftmoe:bits=auto:", "loss=0.5:rescale=true"],
        ),
        ("x" * 50, ["x" * 24, "x" * 24, "xx"]),
    ],
)
def test_long_names_are_broken_into_lines(policy: str, lines: list[str]) -> None:
    assert in_lines(policy).split("\n") == lines
    assert in_lines(policy).replace("\n", "") == policy


def test_long_names_leave_room_for_the_figures(run: Path) -> None:
    """Matplotlib warns where labels leave no room for the axes; here a warning is an error."""
    results = load_results(run)
    names = ["package.module.deeper:Name:share=0.85:bits=auto", "y" * 80, "topk", "z:a=1:b=2"]
    drawn = figures([replace(results[0], policy=name) for name in names])
    assert "share=0.85" in drawn["energy.svg"]
    assert set(drawn) >= {"energy.svg", "decisions.svg", "latency.svg", "links.svg"}
