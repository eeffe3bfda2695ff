r"""Entries of a power calibration: the measured level, and its uncertainty elsewhere.

An entry holds with its stated uncertainty at its carrier and temperature. Away from them the level
drifts by an amount that was not measured, so the uncertainty grows:

.. math:: u^2(f, T) = u_0^2 + (a_f\,(f - f_0))^2 + (a_T\,(T - T_0))^2

and beyond ``REACH_HZ`` or ``REACH_K`` the entry does not hold, nor on the other side of the sample
rate at which the transceiver's filter changes by 6 dB. Both slopes are this project's
assumption about the analog path of an AD936x and its baluns, not a figure of a data sheet
(docs/explanation/power.md).
"""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from siftmoe.radio.power.conversion import FIR_BY_4_RATE_HZ

#: Assumed drift of a level along the carrier, 1 dB in 100 MHz, and with temperature.
DRIFT_DB_PER_HZ: Final = 1e-8
DRIFT_DB_PER_K: Final = 0.02
#: Largest distance from its carrier and temperature at which an entry holds.
REACH_HZ: Final = 100e6
REACH_K: Final = 30.0
#: Standard deviation of an unknown temperature: uniform over 40 K.
UNKNOWN_TEMPERATURE_K: Final = 40.0 / math.sqrt(12.0)

Side = Literal["transmit", "receive"]
Serial = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")]
Carrier = Annotated[float, Meta(ge=1e6, le=1e11)]
#: A full-scale carrier of a radio with or without an amplifier, dBm.
Level = Annotated[float, Meta(ge=-60.0, le=60.0)]
Deviation = Annotated[float, Meta(gt=0.0, le=20.0)]
Temperature = Annotated[float, Meta(ge=-60.0, le=150.0)]
SampleRate = Annotated[float, Meta(ge=1e5, le=1e9)]
Note = Annotated[str, Meta(max_length=200)]


class LevelEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Power of a full-scale carrier at one unit's transmitter or receiver port.

    Parameters
    ----------
    serial : str
        Of the unit.
    path : "transmit" or "receive"
    carrier_hz : float, Hz
    full_scale_dbm : float, dBm
        At 0 dB attenuation or gain: C_tx or C_rx.
    std_db : float, dB
        Standard uncertainty.
    temperature_c : float or None, °C
        Of the unit during the measurement.
    sample_rate_hz : float, Hz
        During the measurement; entries of older versions were made at 2 MS/s.
    measured_at : str
        Time of the measurement, ISO 8601.
    method : str
        Method of the measurement.
    """

    serial: Serial
    path: Side
    carrier_hz: Carrier
    full_scale_dbm: Level
    std_db: Deviation
    temperature_c: Temperature | None = None
    sample_rate_hz: SampleRate = 2e6
    measured_at: Note = ""
    method: Note = ""

    def std_at(
        self, carrier_hz: float, temperature_c: float | None, *, sample_rate_hz: float
    ) -> float | None:
        """Return the standard uncertainty elsewhere, dB; None where the entry does not hold."""
        if not same_filter(self.sample_rate_hz, sample_rate_hz):
            return None
        drift = _drift(self.carrier_hz, carrier_hz, [(self.temperature_c, temperature_c)])
        return None if drift is None else math.hypot(self.std_db, drift)

    def replaces(self, other: LevelEntry | PairEntry) -> bool:
        """Whether the other says the same of an earlier time."""
        return (
            isinstance(other, LevelEntry)
            and (self.serial, self.path, self.carrier_hz)
            == (other.serial, other.path, other.carrier_hz)
            and same_filter(self.sample_rate_hz, other.sample_rate_hz)
            and _close(self.temperature_c, other.temperature_c)
        )


class PairEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Difference C_tx - C_rx of a transmitter and a receiver, measured over a cable.

    A path gain between the two needs this difference only, not C_tx and C_rx separately.

    Parameters
    ----------
    transmitter, receiver : str
        Serial numbers; the same twice for one unit in loopback.
    carrier_hz : float, Hz
    difference_db : float, dB
    std_db : float, dB
    transmitter_c, receiver_c : float or None, °C
        Temperatures.
    sample_rate_hz : float, Hz
    measured_at, method : str
    """

    transmitter: Serial
    receiver: Serial
    carrier_hz: Carrier
    difference_db: Annotated[float, Meta(ge=-120.0, le=120.0)]
    std_db: Deviation
    transmitter_c: Temperature | None = None
    receiver_c: Temperature | None = None
    sample_rate_hz: SampleRate = 2e6
    measured_at: Note = ""
    method: Note = ""

    def std_at(
        self,
        carrier_hz: float,
        transmitter_c: float | None,
        receiver_c: float | None,
        *,
        sample_rate_hz: float,
    ) -> float | None:
        """Return the standard uncertainty elsewhere, dB; None where the entry does not hold."""
        if not same_filter(self.sample_rate_hz, sample_rate_hz):
            return None
        pairs = [(self.transmitter_c, transmitter_c), (self.receiver_c, receiver_c)]
        drift = _drift(self.carrier_hz, carrier_hz, pairs)
        return None if drift is None else math.hypot(self.std_db, drift)

    def replaces(self, other: LevelEntry | PairEntry) -> bool:
        """Whether the other says the same of an earlier time."""
        return (
            isinstance(other, PairEntry)
            and (self.transmitter, self.receiver, self.carrier_hz)
            == (other.transmitter, other.receiver, other.carrier_hz)
            and same_filter(self.sample_rate_hz, other.sample_rate_hz)
            and _close(self.transmitter_c, other.transmitter_c)
            and _close(self.receiver_c, other.receiver_c)
        )


#: Temperatures within this are the same for a new entry; further apart both are kept.
_SAME_K: Final = 5.0


def same_filter(first_hz: float, second_hz: float) -> bool:
    """Whether two sample rates have the same filter in the transceiver."""
    return (first_hz <= FIR_BY_4_RATE_HZ) is (second_hz <= FIR_BY_4_RATE_HZ)


def _close(first: float | None, second: float | None) -> bool:
    return first is None or second is None or abs(first - second) < _SAME_K


def _drift(
    measured_hz: float, carrier_hz: float, temperatures: list[tuple[float | None, float | None]]
) -> float | None:
    """Unmeasured drift in dB; each unit that is involved drifts along the carrier on its own."""
    offset_hz = abs(carrier_hz - measured_hz)
    if offset_hz > REACH_HZ:
        return None
    parts = [DRIFT_DB_PER_HZ * offset_hz] * len(temperatures)
    for then, now in temperatures:
        offset_k = UNKNOWN_TEMPERATURE_K if then is None or now is None else abs(now - then)
        if offset_k > REACH_K:
            return None
        parts.append(DRIFT_DB_PER_K * offset_k)
    return math.hypot(*parts)
