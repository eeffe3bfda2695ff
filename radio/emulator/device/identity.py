"""Identity and variant of an emulated Pluto."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TemperatureReading = Literal["number", "text", "error", "absent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Identity and variant of a Pluto.

    Parameters
    ----------
    name : str
        Name on the air.
    serial : str
    temperature_c : float, degrees Celsius
    extended_tuning : bool
        70 MHz to 6 GHz instead of 325 MHz to 3.8 GHz.
    fir_step_db : float, dB
        Change of the transmitter's level while its FIR filter interpolates by 4.
    temperature_reading : str
        Form of the temperature's attribute.
    lo_powerdown : bool
        Whether the oscillators have the attribute ``powerdown``.
    rate_error_hz : int, Hz
        How far the sample rate reads back from what was written.
    """

    name: str
    serial: str
    temperature_c: float = 36.0
    extended_tuning: bool = False
    fir_step_db: float = 0.0
    temperature_reading: TemperatureReading = "number"
    lo_powerdown: bool = True
    rate_error_hz: int = 0
