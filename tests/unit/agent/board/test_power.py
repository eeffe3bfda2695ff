from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from siftmoe.agent.board.power import TOTAL, BoardPower, Integral, idle_power
from siftmoe.agent.board.rails import GAIN_STD, find_board

if TYPE_CHECKING:
    from pathlib import Path


def test_a_straight_line_is_integrated_exactly() -> None:
    integral = Integral()
    for time_s in (0.0, 0.5, 0.6, 2.0):
        integral.add(time_s, 3.0 + 2.0 * time_s)
    assert integral.energy_j == pytest.approx(3.0 * 2.0 + 2.0**2)
    assert (integral.time_s, integral.samples) == (2.0, 4)
    assert integral.longest_gap_s == pytest.approx(1.4)


@pytest.mark.parametrize(
    ("per_ms", "least"), [(0.002, 0.3), (0.01, 0.4), (0.03, 0.6), (0.2, 0.8), (0.5, 0.9)]
)
def test_the_uncertainty_covers_a_load_however_fast_it_switches(
    per_ms: float, least: float
) -> None:
    rng = np.random.default_rng(4)
    errors, variances = [], []
    for _ in range(400):
        # Sampled every 50 ms, the truth on a grid of 1 ms.
        switches = rng.random(2001) < per_ms
        power = np.where(np.cumsum(switches) % 2 == 0, 5.0, 9.0)
        integral = Integral()
        for index in range(0, 2001, 50):
            integral.add(1e-3 * index, float(power[index]))
        errors.append(integral.energy_j - float(np.sum(power[:2000]) * 1e-3))
        variances.append(integral.variance_j2)
    ratio = math.sqrt(np.mean(np.square(errors)) / np.mean(variances))
    assert least < ratio < 1.1


@pytest.mark.parametrize(
    ("time_s", "power_w"), [(1.0, 5.0), (0.9, 5.0), (math.nan, 5.0), (2.0, math.nan)]
)
def test_an_impossible_sample_is_refused(time_s: float, power_w: float) -> None:
    integral = Integral()
    integral.add(1.0, 5.0)
    with pytest.raises(ValueError, match="power sample"):
        integral.add(time_s, power_w)


def test_idle_power_of_correlated_samples_has_an_honest_uncertainty() -> None:
    rng = np.random.default_rng(5)
    ratios, naive = [], []
    for _ in range(400):
        noise = np.convolve(rng.standard_normal(219), np.ones(20), mode="valid") / 20
        idle = idle_power([float(value) for value in 4.0 + noise])
        ratios.append((idle.power_w - 4.0) / idle.std_w)
        naive.append((idle.power_w - 4.0) / (np.std(noise) / math.sqrt(200)))
    # Student's t with 9 degrees of freedom has a deviation of 1.13; parts are nearly independent.
    assert np.std(ratios) < 1.7
    assert np.std(naive) > 3.0
    with pytest.raises(ValueError, match="20 samples needed"):
        idle_power([4.0] * 19)


@pytest.fixture
def rail(tmp_path: Path) -> Path:
    """Make a module whose only rail takes 6 W; return the file of its current."""
    monitor = tmp_path / "bus/i2c/devices/1-0040/hwmon/hwmon0"
    monitor.mkdir(parents=True)
    (monitor.parents[1] / "name").write_text("ina3221\n")
    (monitor / "in1_label").write_text("VDD_IN\n")
    (monitor / "in1_input").write_text("5000\n")
    (monitor / "curr1_input").write_text("1200\n")
    return monitor / "curr1_input"


def test_a_board_is_sampled_and_told_of(tmp_path: Path, rail: Path) -> None:
    board = find_board(tmp_path)
    assert board is not None
    power = BoardPower(board, clock=time.monotonic, period_s=1e-3)
    assert power.figures() == power.powers_w() == {}
    idle = power.measure_idle(0.02)
    assert idle is not None
    assert (idle.power_w, idle.std_w) == (pytest.approx(6.0), pytest.approx(0.0, abs=1e-12))
    rail.write_text("2400\n")
    power.start()
    while power.figures().get("board_samples", 0.0) < 20:
        time.sleep(1e-3)
    figures = power.figures()
    power.close()
    assert figures["board_energy_j"] == pytest.approx(12.0 * figures["board_time_s"])
    assert figures["board_sampling_var_j2"] == pytest.approx(0.0, abs=1e-12)
    assert figures["idle_power_w"] == pytest.approx(6.0)
    assert figures["board_gain_std"] == GAIN_STD
    assert figures["board_offset_std_w"] == pytest.approx(5.0 * 80e-6 / 5e-3 / math.sqrt(3))
    assert power.powers_w() == {"VDD_IN": pytest.approx(12.0), f"{TOTAL}VDD_IN": pytest.approx(12)}


def test_sensors_that_fall_silent_are_not_told_of(
    tmp_path: Path,
    rail: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("siftmoe.agent.board.power.SILENT_S", 0.3)
    board = find_board(tmp_path)
    assert board is not None
    power = BoardPower(board, clock=time.monotonic, period_s=1e-3)
    power.measure_idle(0.02)
    power.start()
    while not power.figures():
        time.sleep(1e-3)
    rail.unlink()
    while "cannot be read any more" not in caplog.text:
        time.sleep(1e-3)
    while power.figures() or power.powers_w():
        time.sleep(1e-2)
    rail.write_text("1200\n")
    while not power.figures():
        time.sleep(1e-3)
    figures = power.figures()
    power.close()
    assert figures["board_longest_gap_s"] > 0.25
    assert figures["board_energy_j"] == pytest.approx(6.0 * figures["board_time_s"])
    assert caplog.text.count("cannot be read any more") == 1


def test_a_board_that_cannot_be_read_at_the_start_is_none(tmp_path: Path, rail: Path) -> None:
    board = find_board(tmp_path)
    assert board is not None
    rail.unlink()
    assert BoardPower(board, clock=time.monotonic).measure_idle(0.02) is None
