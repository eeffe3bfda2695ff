from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from siftmoe.agent.wire.protocol import StatsReply
from siftmoe.coordinator.board_energy import board_row


def reply(**changes: Any) -> StatsReply:
    counters = {
        "uptime_s": 100.0,
        "board_energy_j": 500.0,
        "board_sampling_var_j2": 0.04,
        "board_time_s": 90.0,
        "board_samples": 1800.0,
        "board_longest_gap_s": 0.06,
        "board_gain_std": 0.006,
        "board_offset_std_w": 0.1,
        "idle_power_w": 5.0,
        "idle_power_std_w": 0.02,
    }
    return StatsReply(
        id=1, counters=counters | changes, power_w={"VDD_IN": 8.0, "total = VDD_IN": 8.0}
    )


LATER = {
    "uptime_s": 120.0,
    "board_energy_j": 660.0,
    "board_sampling_var_j2": 0.05,
    "board_time_s": 110.0,
    "board_samples": 2200.0,
}


def test_gross_and_net_follow_from_two_replies() -> None:
    row = board_row("a0", reply(), reply(**LATER))
    assert row is not None
    assert (row.agent, row.rails, row.duration_s, row.samples) == ("a0", "VDD_IN", 20.0, 400)
    assert (row.energy_j, row.net_j) == (pytest.approx(160.0), pytest.approx(60.0))
    assert row.longest_gap_s == 0.06


def test_uncertainties_against_drawn_sensors() -> None:
    """True power 8 W for 20 s over 5 W idle, seen by sensors with drawn gain and offset."""
    rng = np.random.default_rng(6)
    row = board_row("a0", reply(), reply(**LATER))
    assert row is not None
    draws = 20_000
    gain = 1.0 + 0.006 * rng.standard_normal(draws)
    offset = 0.1 * rng.standard_normal(draws)
    between = 0.1 * rng.standard_normal(draws)
    idle = gain * 5.0 + offset + 0.02 * rng.standard_normal(draws)
    gross = (gain * 8.0 + offset) * 20.0 + between
    assert row.energy_std_j == pytest.approx(float(np.std(gross)), rel=0.03)
    assert row.idle_power_std_w == pytest.approx(float(np.std(idle)), rel=0.03)
    assert row.net_std_j == pytest.approx(float(np.std(gross - 20.0 * idle)), rel=0.03)
    # Independent errors would promise far less: the sensor's offset has gone.
    assert row.net_std_j < 0.3 * math.hypot(row.energy_std_j, 20.0 * row.idle_power_std_w)


@pytest.mark.parametrize("missing", ["board_energy_j", "idle_power_w", "uptime_s"])
def test_a_board_without_sensors_or_with_silent_ones_has_no_row(missing: str) -> None:
    later = reply(**LATER)
    del later.counters[missing]
    assert board_row("a0", reply(), later) is None
    assert board_row("a0", later, reply(**LATER)) is None


@pytest.mark.parametrize(
    "restarted",
    [{"board_samples": 10.0}, {"uptime_s": 5.0}, {"idle_power_w": 5.01}],
)
def test_an_agent_that_was_started_anew_has_no_row(
    restarted: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    assert board_row("a0", reply(), reply(**(LATER | restarted))) is None
    assert "started anew" in caplog.text


@pytest.mark.parametrize("name", ["board_sampling_var_j2", "board_time_s", "board_energy_j"])
def test_what_only_grows_and_is_less_is_another_process(name: str) -> None:
    assert board_row("a0", reply(), reply(**{**LATER, name: 0.0})) is None
