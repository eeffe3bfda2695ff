r"""Makes calibration entries from readings.

A power meter at the transmitter gives C_tx; two cabled radios give the difference of C_tx and C_rx:

.. math:: C_{tx} = P_\text{meter} + L - 10 \log_{10} \overline{|x|^2} + a, \qquad
          C_{tx} - C_{rx} = A + G + a + 10 \log_{10}
                            \frac{\overline{|y|^2}}{\overline{|x|^2}}

in dB, with the loss L of the cable to the meter, the attenuation A between the radios, the
transmitter's attenuation a and the receiver's gain G (own derivation from the definitions in
`device`, docs/explanation/power.md). Impossible values, such as a gain in place of a loss, are
refused.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from siftmoe.radio.errors import CalibrationError
from siftmoe.radio.power.calibration import LevelEntry, PairEntry
from siftmoe.radio.power.conversion import TYPICAL_RX_DBM, mean_square, typical_tx_dbm
from siftmoe.radio.power.tone import hear_tone, tone, tone_power, transmitting_tone
from siftmoe.radio.units import db_to_linear, linear_to_db

if TYPE_CHECKING:
    from siftmoe.radio.device import Radio, RadioSettings
    from siftmoe.radio.power.tone import ToneLevel

#: A reading that differs more from the typical figure is refused as a mistake.
PLAUSIBLE_DB: Final = 10.0
#: Assumed errors of the steps of attenuator and gain, since an entry is used at other settings.
ATTENUATION_STEP_STD_DB: Final = 0.1
GAIN_STEP_STD_DB: Final = 0.3
#: Attenuation between cabled radios: +2.5 dBm at most at an AD936x, and the tone above the noise.
ATTENUATOR_RANGE_DB: Final = (10.0, 120.0)
_CABLE_RANGE_DB: Final = (0.0, 60.0)
#: Level of the tone that the receiver's gain is set for.
_TARGET_DBFS: Final = -15.0
#: The level while the transmitter is silent must be so far below the tone: an error of 0.04 dB.
_QUIETER_DB: Final = 20.0
_GAIN_RANGE_DB: Final = (0.0, 60.0)


def tone_power_dbm(settings: RadioSettings) -> float:
    """Return the reading that a meter is expected to show at a typical unit's port, dBm."""
    return typical_tx_dbm(settings.sample_rate_hz) + _sent_db(settings)


def transmit_entry(
    reading_dbm: float,
    *,
    serial: str,
    settings: RadioSettings,
    std_db: float,
    cable_db: float = 0.0,
    temperature_c: float | None = None,
    measured_at: str = "",
) -> LevelEntry:
    """Make an entry from a power meter's reading while the tone was on.

    Parameters
    ----------
    reading_dbm : float, dBm
    serial : str
    settings : RadioSettings
        Of the radio during the reading.
    std_db : float, dB
        Standard uncertainty of the reading, cable included.
    cable_db : float, dB
        Loss of cable and attenuators between the radio's port and the meter.
    temperature_c : float or None, °C
    measured_at : str

    Raises
    ------
    CalibrationError
        If the reading cannot be that of this tone.
    """
    _check_serial(serial)
    _within("the loss to the meter", cable_db, _CABLE_RANGE_DB)
    level = reading_dbm + cable_db - _sent_db(settings)
    expected = tone_power_dbm(settings) - cable_db
    if not abs(level - typical_tx_dbm(settings.sample_rate_hz)) <= PLAUSIBLE_DB:
        raise CalibrationError(
            f"calibration of {serial!r}: {reading_dbm} dBm was read, about {expected:.1f} dBm is "
            f"expected at tx attenuation {settings.tx_attenuation_db} dB behind {cable_db} dB of "
            f"cable; more than {PLAUSIBLE_DB:g} dB off. Check the meter's frequency and offset, "
            "the cable's loss, and that the tone was on"
        )
    return LevelEntry(
        serial=serial,
        path="transmit",
        carrier_hz=settings.carrier_hz,
        full_scale_dbm=level,
        std_db=math.hypot(_positive(std_db), ATTENUATION_STEP_STD_DB),
        sample_rate_hz=settings.sample_rate_hz,
        temperature_c=temperature_c,
        measured_at=measured_at,
        method="power meter",
    )


def cabled_settings(settings: RadioSettings, attenuator_db: float) -> RadioSettings:
    """Receiver's settings that put the tone of a typical pair at -15 dB of full scale.

    Raises
    ------
    CalibrationError
        If the attenuator is out of the range that is safe for the receiver.
    """
    _within("the attenuator", attenuator_db, ATTENUATOR_RANGE_DB)
    arriving_dbm = tone_power_dbm(settings) - attenuator_db
    low, high = _GAIN_RANGE_DB
    gain = min(high, max(low, float(round(_TARGET_DBFS + TYPICAL_RX_DBM - arriving_dbm))))
    return replace(settings, rx_gain_db=gain)


def hear_cabled(
    transmitter: Radio, receiver: Radio, *, settings: RadioSettings, listening: RadioSettings
) -> ToneLevel:
    """Measure the transmitter's tone at the receiver; the transmitter is silent afterwards.

    Raises
    ------
    CalibrationError
        If the level is not well below the tone while the transmitter is silent.
    Overload, SyncFailed
        If the level is too high or too low to be used.
    """
    receiver.tune(listening)
    quiet = tone_power(receiver, listening)
    with transmitting_tone(transmitter, settings):
        heard = hear_tone(receiver, listening)
    if not heard.mean_square > quiet * db_to_linear(_QUIETER_DB):
        raise CalibrationError(
            f"radio {receiver.name!r}: it hears {linear_to_db(quiet / heard.mean_square):.1f} dB "
            f"of the tone's level while {transmitter.name!r} is silent; something else transmits "
            "there: take off antennas, or another carrier"
        )
    return heard


def pair_entry(
    heard: ToneLevel,
    *,
    serials: tuple[str, str],
    settings: RadioSettings,
    listening: RadioSettings,
    attenuator_db: float,
    attenuator_std_db: float,
    temperatures_c: tuple[float | None, float | None] = (None, None),
    measured_at: str = "",
) -> PairEntry:
    """Make an entry from a tone's level at a cabled receiver.

    Parameters
    ----------
    heard : ToneLevel
    serials : (str, str)
        Of transmitter and receiver.
    settings, listening : RadioSettings
        Of transmitter and receiver.
    attenuator_db, attenuator_std_db : float, dB
        Attenuation between the ports, cables included, and its standard uncertainty.
    temperatures_c : (float or None, float or None), °C
    measured_at : str

    Raises
    ------
    CalibrationError
        If the level cannot have come through that attenuator.
    """
    for serial in serials:
        _check_serial(serial)
    _within("the attenuator", attenuator_db, ATTENUATOR_RANGE_DB)
    difference = heard.dbfs - listening.rx_gain_db - _sent_db(settings) + attenuator_db
    unexpected = difference - (typical_tx_dbm(settings.sample_rate_hz) - TYPICAL_RX_DBM)
    if not abs(unexpected) <= 2.0 * PLAUSIBLE_DB:
        raise CalibrationError(
            f"calibration of {serials[0]!r} and {serials[1]!r}: the tone arrives "
            f"{abs(unexpected):.1f} dB {'stronger' if unexpected > 0 else 'weaker'} than "
            f"{attenuator_db} dB of attenuation lets expect; check the attenuator's value, that "
            "transmitter and receiver are the ports cabled, and that no antenna is on them"
        )
    return PairEntry(
        transmitter=serials[0],
        receiver=serials[1],
        carrier_hz=settings.carrier_hz,
        difference_db=difference,
        std_db=math.hypot(
            _positive(attenuator_std_db),
            heard.std_db,
            ATTENUATION_STEP_STD_DB,
            GAIN_STEP_STD_DB,
        ),
        sample_rate_hz=settings.sample_rate_hz,
        transmitter_c=temperatures_c[0],
        receiver_c=temperatures_c[1],
        measured_at=measured_at,
        method=f"cable and attenuator of {attenuator_db:g} dB",
    )


def _sent_db(settings: RadioSettings) -> float:
    """Level of the tone at the port relative to a full-scale carrier at 0 dB attenuation, dB."""
    return linear_to_db(mean_square(tone())) - settings.tx_attenuation_db


def _check_serial(serial: str) -> None:
    if not serial:
        raise CalibrationError(
            "calibration: the radio tells no serial number, so an entry would be of no unit; "
            "update its firmware"
        )


def _within(what: str, value_db: float, bounds: tuple[float, float]) -> None:
    low, high = bounds
    if not low <= value_db <= high:
        raise CalibrationError(
            f"calibration: {what} must be a loss of {low:g} to {high:g} dB, got {value_db:g} dB"
        )


def _positive(std_db: float) -> float:
    if not 0.0 < std_db <= 10.0:
        raise CalibrationError(
            f"calibration: a standard uncertainty must be above 0 and at most 10 dB, got {std_db}"
        )
    return std_db
