from __future__ import annotations

import math

import pytest

from siftmoe.coordinator.ledger.store import TransmissionRow
from siftmoe.radio.channel.link import ChannelOrigin, Source
from siftmoe.tools.plotting.mix import draw_mix
from siftmoe.tools.results.width_mix import by_width, mean_bits, mix_of


def burst(gain: float, widths: str, direction: str = "up") -> TransmissionRow:
    return TransmissionRow(
        time_s=0.0,
        step=0,
        layer=0,
        agent="a",
        direction=direction,  # type: ignore[arg-type]
        tokens=sum(int(part.split(":")[1]) for part in widths.split()),
        payload_bits=1.0,
        tx_power_w=1.0,
        tx_power_std_w=0.0,
        power_source=Source.MODELLED,
        airtime_s=1.0,
        airtime_source=Source.MODELLED,
        energy_j=1.0,
        energy_std_j=0.0,
        rate_bps=1.0,
        channel_gain=gain,
        channel_age_s=0.0,
        channel_origin=ChannelOrigin.SIMULATED,
        widths=widths,
    )


ROWS = [
    burst(1e-7, "3:5 8:2"),
    burst(1.1e-7, "3:1"),
    burst(1e-8, "2:60"),
    burst(1.0, "8:9", "down"),
]


def test_tokens_are_counted_by_gain_and_width() -> None:
    mix = mix_of(ROWS, reference_gain=1e-7)
    assert mix == ((-9.0, {2: 60}), (0.0, {3: 6, 8: 2}))
    assert by_width(mix) == {2: 60, 3: 6, 8: 2}
    assert mean_bits(mix) == pytest.approx((2 * 60 + 3 * 6 + 8 * 2) / 68)
    assert math.isnan(mean_bits(()))


def test_a_mix_is_drawn_where_something_was_sent() -> None:
    mix = mix_of(ROWS)
    drawn = draw_mix({"one": mix, "none": ()})
    assert drawn is not None
    assert "<svg" in drawn.svg
    assert len(drawn.canvas.axes) == 1
    assert draw_mix({"none": ()}) is None
