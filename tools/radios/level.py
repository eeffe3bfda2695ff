"""Calibrates a radio's transmit level with a power meter at its port."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from siftmoe.radio.opening import open_radio
from siftmoe.radio.power.calibrating import tone_power_dbm, transmit_entry
from siftmoe.radio.power.tone import transmitting_tone
from siftmoe.tools.radios.entries import measured_now
from siftmoe.tools.radios.meter import read_meter, say

if TYPE_CHECKING:
    from siftmoe.radio.device import RadioSettings
    from siftmoe.radio.power.calibration import LevelEntry
    from siftmoe.radio.power.store import CalibrationStore


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterReading:
    """Where the meter's reading comes from, and its uncertainty.

    Parameters
    ----------
    dbm : float or None, dBm
        The reading, if it was taken before.
    command : str or None
        Program that prints the reading; None asks on the terminal.
    std_db : float, dB
    cable_db : float, dB
        Loss between the radio and the meter.
    """

    dbm: float | None
    command: str | None
    std_db: float
    cable_db: float


def send_tone(
    uri: str,
    settings: RadioSettings,
    seconds: float,
    *,
    store: CalibrationStore,
    cable_db: float,
) -> None:
    """Transmit a tone for some seconds and store nothing."""
    radio = open_radio(uri, calibrations=store)
    try:
        with transmitting_tone(radio, settings):
            expected = tone_power_dbm(settings) - cable_db
            say(f"tone on for {seconds:g} s; a typical radio gives {expected:.1f} dBm")
            time.sleep(seconds)
    finally:
        radio.close()


def measure_level(
    uri: str, settings: RadioSettings, meter: MeterReading, *, store: CalibrationStore
) -> LevelEntry:
    """Measure a radio's power at full scale.

    Raises
    ------
    RadioError
        If the radio is missing, or the meter's reading is no number.
    """
    radio = open_radio(uri, calibrations=store)
    try:
        if meter.dbm is not None:
            radio.tune(settings)  # refuses settings at which the radio cannot have sent
            reading_dbm = meter.dbm
        else:
            with transmitting_tone(radio, settings):
                reading_dbm = read_meter(meter.command, settings=settings, cable_db=meter.cable_db)
        return transmit_entry(
            reading_dbm,
            serial=radio.info.serial,
            settings=settings,
            std_db=meter.std_db,
            cable_db=meter.cable_db,
            temperature_c=radio.info.temperature_c,
            measured_at=measured_now(),
        )
    finally:
        radio.close()
