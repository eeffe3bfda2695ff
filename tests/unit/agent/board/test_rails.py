"""Rails of Jetson boards, on folders with the layout of their kernels' sysfs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from siftmoe.agent.board.rails import find_board

if TYPE_CHECKING:
    from pathlib import Path

Rails = dict[str, tuple[int, int]]  # label: mV, mA

ORIN_NX: Rails = {
    "VDD_IN": (5000, 1200),
    "VDD_CPU_GPU_CV": (5000, 300),
    "VDD_SOC": (5000, 400),
}
AGX_ORIN = (
    {"VDD_GPU_SOC": (19000, 200), "VDD_CPU_CV": (19000, 50), "VIN_SYS_5V0": (5000, 700)},
    {"NC": (0, 8), "VDDQ_VDD2_1V8AO": (19000, 30), "_NC_": (0, 8)},
)
NANO: Rails = {"POM_5V_IN": (5000, 600), "POM_5V_GPU": (5000, 10), "POM_5V_CPU": (5000, 100)}
AGX_XAVIER = (
    {"GPU": (19000, 40), "CPU": (19000, 50), "SOC": (19000, 80)},
    {"CV": (19000, 0), "VDDRQ": (19000, 20), "SYS5V": (19000, 100)},
)


def hwmon(root: Path, *chips: Rails) -> Path:
    """JetPack 5 and 6: several INA3221, reached through symbolic links as in sysfs."""
    (root / "bus/i2c/devices").mkdir(parents=True, exist_ok=True)
    for i, rails in enumerate(chips):
        device = root / f"devices/platform/c240000.i2c/i2c-1/1-004{i}"
        monitor = device / f"hwmon/hwmon{i + 2}"
        monitor.mkdir(parents=True)
        (device / "name").write_text("ina3221\n")
        for n, (label, (volt, ampere)) in enumerate(rails.items(), start=1):
            (monitor / f"in{n}_label").write_text(f"{label}\n")
            (monitor / f"in{n}_input").write_text(f"{volt}\n")
            (monitor / f"curr{n}_input").write_text(f"{ampere}\n")
            (monitor / f"in{n}_enable").write_text("1\n")
            (monitor / f"shunt{n}_resistor").write_text("2000\n")
        (monitor / "in7_label").write_text("sum of shunt voltages\n")
        (root / f"bus/i2c/devices/1-004{i}").symlink_to(device)
    return root


def jetpack4(root: Path, *chips: Rails, voltage: bool = True) -> Path:
    """JetPack 4: the driver ina3221x."""
    for i, rails in enumerate(chips):
        monitor = root / f"bus/i2c/devices/6-004{i}/iio:device{i}"
        monitor.mkdir(parents=True)
        (monitor.parent / "name").write_text("ina3221x\n")
        for n, (label, (volt, ampere)) in enumerate(rails.items()):
            (monitor / f"rail_name_{n}").write_text(f"{label}\n")
            (monitor / f"in_power{n}_input").write_text(f"{volt * ampere // 1000}\n")
            (monitor / f"in_current{n}_input").write_text(f"{ampere}\n")
            if voltage:
                (monitor / f"in_voltage{n}_input").write_text(f"{volt}\n")
    return root


@pytest.mark.parametrize("layout", [hwmon, jetpack4])
@pytest.mark.parametrize(
    ("chips", "total", "power_w"),
    [
        ((ORIN_NX,), "VDD_IN", 6.0),
        ((NANO,), "POM_5V_IN", 3.0),
        (AGX_ORIN, "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0 + VDDQ_VDD2_1V8AO", 8.82),
        (AGX_XAVIER, "GPU + CPU + SOC + CV + VDDRQ + SYS5V", 5.51),
    ],
)
def test_the_total_counts_every_part_once(
    tmp_path: Path, layout: type, chips: tuple[Rails, ...], total: str, power_w: float
) -> None:
    board = find_board(layout(tmp_path, *chips))
    assert board is not None
    powers = board.powers_w()
    assert board.total_name == total
    assert board.total_w(powers) == pytest.approx(power_w)
    assert set(powers) == {label for rails in chips for label in rails if "NC" not in label}


def test_the_order_of_the_chips_does_not_matter(tmp_path: Path) -> None:
    board = find_board(hwmon(tmp_path, *AGX_ORIN[::-1]))
    assert board is not None
    assert board.total_w(board.powers_w()) == pytest.approx(8.82)


def test_the_offset_is_that_of_the_shunt(tmp_path: Path) -> None:
    board = find_board(hwmon(tmp_path / "new", ORIN_NX))
    assert board is not None
    assert board.offset_std_w() == pytest.approx(5.0 * 80e-6 / 2e-3 / math.sqrt(3))
    old = find_board(jetpack4(tmp_path / "old", NANO, voltage=False))
    assert old is not None
    assert old.offset_std_w() == pytest.approx(5.0 * 80e-6 / 5e-3 / math.sqrt(3))


def test_an_old_driver_that_tells_no_power_tells_voltage_and_current(tmp_path: Path) -> None:
    root = jetpack4(tmp_path, NANO)
    for power in root.glob("bus/**/in_power*_input"):
        power.unlink()
    board = find_board(root)
    assert board is not None
    assert board.total_w(board.powers_w()) == pytest.approx(3.0)


def test_a_machine_without_rails_states_nothing(tmp_path: Path) -> None:
    assert find_board(tmp_path) is None
    device = tmp_path / "bus/i2c/devices/0-0050"
    device.mkdir(parents=True)
    (device / "name").write_text("24c02\n")
    assert find_board(tmp_path) is None


@pytest.mark.parametrize("missing", ["VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"])
def test_rails_that_do_not_make_a_whole_are_not_added_up(
    tmp_path: Path, missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    chips = [{label: v for label, v in rails.items() if label != missing} for rails in AGX_ORIN]
    assert find_board(hwmon(tmp_path, *chips)) is None
    assert "of no known board" in caplog.text


def test_a_channel_that_is_switched_off_is_no_rail(tmp_path: Path) -> None:
    root = hwmon(tmp_path, ORIN_NX)
    (enable,) = root.glob("devices/**/in3_enable")
    enable.write_text("0\n")
    board = find_board(root)
    assert board is not None
    assert set(board.powers_w()) == {"VDD_IN", "VDD_CPU_GPU_CV"}


def test_a_sensor_that_fails_is_left_out_unless_the_total_needs_it(tmp_path: Path) -> None:
    root = hwmon(tmp_path, ORIN_NX)
    board = find_board(root)
    assert board is not None
    (soc,) = root.glob("devices/**/curr3_input")
    soc.unlink()
    assert set(board.powers_w()) == {"VDD_IN", "VDD_CPU_GPU_CV"}
    (total,) = root.glob("devices/**/curr1_input")
    total.write_text("busy\n")
    with pytest.raises(OSError, match=r"b'busy\\n', which is no number"):
        board.powers_w()
