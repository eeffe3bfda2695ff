"""Energy tables are convex, nondecreasing and minimal, as the policies assume."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from siftmoe.coordinator.energy.roundtrip import OneWay, RoundTrip
from siftmoe.coordinator.energy.tables import uplink_energy_table
from siftmoe.radio.channel.link import transmit_energy

BITS = 65536.0


@st.composite
def ways(draw):
    return OneWay(
        bandwidth_hz=np.array([draw(st.floats(2e5, 2e7))]),
        gain=np.array([10.0 ** draw(st.floats(-13, -8))]),
        noise_psd=np.array([4e-21]),
        tx_power_limit_w=np.array([draw(st.sampled_from([0.001, 0.1, 2.0, np.inf]))]),
    )


def assert_convex_and_nondecreasing(table: np.ndarray) -> None:
    assert table[0] == 0.0
    finite = table[np.isfinite(table)]
    assert np.all(np.isinf(table[len(finite) :]))
    slopes = np.diff(finite)
    assert np.all(slopes >= 0.0)
    assert np.all(np.diff(slopes) >= -1e-9 * finite[2:])


@given(way=ways(), window=st.floats(0.005, 1.0))
def test_uplink_table(way, window):
    table = uplink_energy_table(
        max_load=20,
        payload_bits=BITS,
        window_s=window,
        bandwidth_hz=way.bandwidth_hz,
        gain=way.gain,
        noise_psd=way.noise_psd,
        tx_power_limit_w=way.tx_power_limit_w,
    )
    assert_convex_and_nondecreasing(table[0])


@given(
    up=ways(),
    down=ways(),
    window=st.floats(0.01, 1.0),
    compute=st.floats(0.0, 0.01),
    price=st.sampled_from([0.0, 0.2, 1.0, 30.0]),
    down_bits=st.sampled_from([0.0, BITS / 2, BITS]),
)
@settings(deadline=None)
def test_round_trip_table(up, down, window, compute, price, down_bits):
    result = RoundTrip(
        uplink_bits=BITS,
        downlink_bits=down_bits,
        window_s=window,
        fixed_s=0.001,
        compute_s=np.array([compute]),
        uplink=up,
        downlink=down,
        downlink_price=price,
    ).table(12)
    assert_convex_and_nondecreasing(result.energy_j[0])
    for load in range(1, 13):
        searched = fine_search(up, down, window, compute, price, down_bits, load)
        mine = result.energy_j[0, load]
        if np.isfinite(searched):
            assert mine <= searched * (1 + 1e-9)
        if np.isfinite(mine):
            assert searched <= mine * 1.01


def fine_search(up, down, window, compute, price, down_bits, load) -> float:
    """Least energy over a fine grid of admissible divisions of the deadline."""
    total = window - 0.001 - compute * load
    low = load * BITS * float(up.seconds_per_bit()[0])
    high = total - (load * down_bits * float(down.seconds_per_bit()[0]) if down_bits else 0.0)
    if not 0.0 < low <= high:
        return np.inf
    inner = 0.5 - 0.5 * np.cos(np.linspace(0.0, np.pi, 4001))
    airtime = low + (high - low) * inner

    def cost(bits, seconds, way):
        return transmit_energy(
            payload_bits=bits,
            airtime_s=seconds,
            bandwidth_hz=way.bandwidth_hz,
            gain=way.gain,
            noise_psd=way.noise_psd,
        )

    energy = cost(load * BITS, airtime, up)
    if down_bits and price:
        energy = energy + price * cost(load * down_bits, total - airtime, down)
    return float(energy.min())
