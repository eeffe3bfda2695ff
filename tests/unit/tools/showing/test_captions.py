"""Sentences that stand under every energy."""

from __future__ import annotations

from typing import Any

import pytest

from siftmoe.coordinator.config.radio import RadioEntry
from siftmoe.tools.showing.captions import channel_text, fading_text, operating_point_text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "Rayleigh fading, gain floor 0.05 (-13 dB of the mean)"),
        ({"gain_floor": 0.0}, "Rayleigh fading, no gain floor"),
        ({"fading": "rician", "gain_floor": 0.1}, "Rician fading (K = 6 dB), gain floor 0.1 (-10"),
        ({"fading": "none"}, "no fading"),
        ({"fading_slots": 4}, "in 4 blocks of an uplink's window, gain floor 0.05 (-13 dB of the "),
        ({"links": "my_lab:Links"}, ""),
    ],
)
def test_the_floor_is_named_wherever_the_fading_is(settings: dict[str, Any], said: str) -> None:
    radio = RadioEntry(**settings)
    assert said in fading_text(radio)
    assert fading_text(radio) in channel_text(radio)


def test_the_channel_is_said_to_be_constant_over_a_layer() -> None:
    text = channel_text(RadioEntry(), [10.0, 20.0, 40.0])
    assert "coherence time 100 ms" in text
    assert "constant over it, and taken anew for the next layer" in text
    assert "helpers at 10, 20, 40 m" in text
    assert "every helper at 20 m" in channel_text(RadioEntry(), [20.0, 20.0])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "0.44 bit/s/Hz (our reading of the paper's Mixtral on CommonsenseQA"),
        (
            {"operating_point": "switch-xsum", "bandwidth_hz": 1e6},
            "0.0176 bit/s/Hz (our reading of the paper's switch-base-8 on XSum: 1 MHz, 0.7 s",
        ),
        ({"deadline_s": 0.1}, "neither of the paper's settings"),
        ({"deadline_per": "layer"}, "deadline read per layer: one for the whole batch"),
        ({}, "at 2.45 GHz"),
    ],
)
def test_an_operating_point_of_the_paper_is_called_a_reading(
    settings: dict[str, Any], said: str
) -> None:
    assert said in operating_point_text(RadioEntry(**settings), 128)
