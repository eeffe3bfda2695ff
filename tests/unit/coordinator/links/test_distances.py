"""Distances of helpers from a text."""

from __future__ import annotations

import numpy as np
import pytest

from siftmoe.coordinator.links.distances import distances_of
from siftmoe.radio.channel.pathloss import path_gain


def test_one_for_all_one_for_each_or_a_spread() -> None:
    assert distances_of("20", 3) == [20.0, 20.0, 20.0]
    assert distances_of("10,20,30", 3) == [10.0, 20.0, 30.0]
    assert distances_of("10:40", 3) == pytest.approx([10.0, 20.0, 40.0])
    assert distances_of("10:40", 1) == pytest.approx([20.0])


@pytest.mark.parametrize("exponent", [2.0, 3.5])
def test_a_spread_keeps_the_mean_gain_in_decibels(exponent: float) -> None:
    gains = [
        path_gain(distance_m=distances_of(text, 5), carrier_hz=2.45e9, exponent=exponent)
        for text in ("20", "10:40", "5:80")
    ]
    means = [float(np.log(gain).mean()) for gain in gains]
    assert means[1:] == pytest.approx([means[0]] * 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10,20", r"2 distances for 3 helpers; name one for each"),
        ("near", r"write one distance in metres for all"),
        ("10,", r"write one distance in metres for all"),
        ("1:2:3", r"a spread from the nearest to the farthest"),
        ("40:10", r"write the nearest first, 10:40"),
        ("0.5", r"0.5 m is out of range; write 1 to"),
        ("nan", r"nan m is out of range"),
    ],
)
def test_errors_name_the_text_and_the_way_out(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"distances '{text}'.*{said}"):
        distances_of(text, 3)
