"""Readings of a power meter: from a program, or typed on the terminal."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

from siftmoe.radio.errors import CalibrationError
from siftmoe.radio.power.calibrating import tone_power_dbm

if TYPE_CHECKING:
    from siftmoe.radio.device import RadioSettings

#: Time limit of a program that reads the meter.
_METER_TIMEOUT_S = 60.0


def read_meter(command: str | None, *, settings: RadioSettings, cable_db: float) -> float:
    """Return the reading of a program, or the one typed on the terminal, dBm."""
    if command is not None:
        return _ask_program(command)
    expected = tone_power_dbm(settings) - cable_db
    say(f"The tone is on at {settings.carrier_hz / 1e6:g} MHz. Set the meter to that frequency.")
    say(f"A typical radio gives {expected:.1f} dBm. What does the meter read, in dBm? ", end="")
    line = sys.stdin.readline()
    return _number(line, "what was typed")


def _ask_program(command: str) -> float:
    try:
        done = subprocess.run(
            shlex.split(command),
            capture_output=True,
            text=True,
            check=True,
            timeout=_METER_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise CalibrationError(f"--meter-command {command!r}: {error}") from error
    return _number(done.stdout, f"what {command!r} printed")


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise CalibrationError(f"{what}, {text.strip()!r}, is no number of dBm") from None


def say(text: str, end: str = "\n") -> None:
    """Write an instruction to stderr at once."""
    print(text, end=end, file=sys.stderr, flush=True)
