"""Power sensors of a Jetson board: the INA3221 monitors of its supply rails, read from sysfs.

========================  =============================================  ========================
board                     labels                                         total
========================  =============================================  ========================
Orin NX/Nano, Xavier NX   VDD_IN, VDD_CPU_GPU_CV, VDD_SOC                VDD_IN
Nano                      POM_5V_IN, POM_5V_GPU, POM_5V_CPU              POM_5V_IN
AGX Orin                  VDD_GPU_SOC, VDD_CPU_CV, VIN_SYS_5V0,          their sum
                          VDDQ_VDD2_1V8AO
AGX Xavier                GPU, CPU, SOC, CV, VDDRQ, SYS5V                their sum
========================  =============================================  ========================

JetPack 5 and 6 use the kernel's hwmon driver, JetPack 4 has its own driver under ``iio``. No total
is given for a board whose rails are not in the table: the sum of unknown rails could count power
twice.
"""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

#: Rails that carry the module's whole power, and sets of rails whose sum does.
_TOTALS: Final = ("VDD_IN", "POM_5V_IN")
_SUMS: Final = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"),
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
)
#: Relative standard uncertainty of the gain: the shunt's tolerance of 1 %, uniform; the INA3221's
#: own 0.25 % hardly adds to it.
GAIN_STD: Final = 0.01 / math.sqrt(3.0)
#: Largest offset of the INA3221's shunt voltage (TI SBOS576), and the shunt's resistance where the
#: driver does not give it.
_OFFSET_V: Final = 80e-6
_SHUNT_OHM: Final = 5e-3
#: Supply voltage of a module whose sensor gives none.
_SUPPLY_V: Final = 5.0

_MILLI: Final = 1e-3
_MICRO: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Rail:
    """One supply rail.

    Parameters
    ----------
    label : str
    factors : tuple of Path
        Files whose values multiply to the power: mV and mA, or mW alone.
    voltage : Path or None
        File with the voltage in mV.
    shunt_ohm : float
        Resistance of the shunt.
    """

    label: str
    factors: tuple[Path, ...]
    voltage: Path | None
    shunt_ohm: float = _SHUNT_OHM

    def power_w(self) -> float:
        """Read the power, W.

        Raises
        ------
        OSError
            If the sensor does not answer.
        """
        return math.prod(_read(path) for path in self.factors)

    def offset_std_w(self) -> float:
        r"""Return the standard uncertainty of the power by the sensor's offset, W.

        The offset is uniform within ±80 µV: :math:`V \cdot 80\,µV / (R \sqrt 3)`.
        """
        volt = _SUPPLY_V if self.voltage is None else _read(self.voltage)
        return volt * _OFFSET_V / (self.shunt_ohm * math.sqrt(3.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """The rails of a board, and those whose sum is the board's whole power."""

    rails: tuple[Rail, ...]
    total: tuple[Rail, ...]

    def powers_w(self) -> dict[str, float]:
        """Read every rail that answers, W by label.

        Raises
        ------
        OSError
            If a rail of the total does not answer.
        """
        powers: dict[str, float] = {}
        for rail in self.rails:
            try:
                powers[rail.label] = rail.power_w()
            except OSError:
                if rail in self.total:
                    raise
        return powers

    def total_w(self, powers_w: dict[str, float]) -> float:
        """Return the board's power of a reading, W."""
        return sum(powers_w[rail.label] for rail in self.total)

    @property
    def total_name(self) -> str:
        """Names of the rails that are added up."""
        return " + ".join(rail.label for rail in self.total)

    def offset_std_w(self) -> float:
        """Return the standard uncertainty of the total by the sensors' offsets, W."""
        return math.hypot(*(rail.offset_std_w() for rail in self.total))


def find_board(root: Path = Path("/sys")) -> Board | None:
    """Find the rails of this board.

    Parameters
    ----------
    root : Path
        Folder of sysfs.

    Returns
    -------
    Board or None
        None if there are no rails, or no set of them is known to be the board's whole power; in the
        second case the log names the rails.
    """
    rails: dict[str, Rail] = {}
    for device in sorted(root.glob("bus/i2c/devices/*")):
        if _text(device / "name").startswith("ina3221"):
            for rail in (*_hwmon(device), *_jetpack4(device)):
                rails.setdefault(rail.label, rail)
    if not rails:
        return None
    for labels in (*((label,) for label in _TOTALS), *_SUMS):
        if all(label in rails for label in labels):
            total = tuple(rails[label] for label in labels)
            return Board(rails=tuple(rails.values()), total=total)
    logger.warning(
        "the rails %s are of no known board, so its power is not reported", ", ".join(rails)
    )
    return None


def _hwmon(device: Path) -> Iterator[Rail]:
    for monitor in sorted(device.glob("hwmon/hwmon*")):
        for n in (1, 2, 3):
            label = _text(monitor / f"in{n}_label")
            if _is_rail(label) and _text(monitor / f"in{n}_enable") != "0":
                voltage = monitor / f"in{n}_input"
                yield Rail(
                    label=label,
                    factors=(voltage, monitor / f"curr{n}_input"),
                    voltage=voltage,
                    shunt_ohm=_shunt(monitor / f"shunt{n}_resistor"),
                )


def _jetpack4(device: Path) -> Iterator[Rail]:
    for monitor in sorted(device.glob("iio:device*")):
        for n in (0, 1, 2):
            label = _text(monitor / f"rail_name_{n}")
            if _is_rail(label):
                power, voltage, current = (
                    monitor / f"in_{what}{n}_input" for what in ("power", "voltage", "current")
                )
                yield Rail(
                    label=label,
                    factors=(power,) if power.exists() else (voltage, current),
                    voltage=voltage if voltage.exists() else None,
                )


def _is_rail(label: str) -> bool:
    # "NC" is a channel that is not connected; its readings are noise.
    return bool(label) and "NC" not in label.replace("-", "_").split("_")


def _shunt(path: Path) -> float:
    """Read a resistance in ohm from a file in µΩ."""
    text = _text(path)
    return int(text) * _MICRO if text.isdigit() and int(text) else _SHUNT_OHM


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _read(path: Path) -> float:
    """Read a file's value in thousandths; Python's file objects take several times as long."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        text = os.read(descriptor, 64)
    finally:
        os.close(descriptor)
    try:
        return float(text) * _MILLI
    except ValueError as error:
        raise OSError(f"{path} reads {text!r}, which is no number") from error
