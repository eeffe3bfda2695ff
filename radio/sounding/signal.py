"""The sounding burst as a radio repeats it, and the description that its receiver needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.sounding import pilots
from siftmoe.radio.units import db_to_linear

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.channel.link import Source
    from siftmoe.radio.device import Radio, RadioSettings

    ComplexArray = NDArray[np.complex128]

#: Burst and gap. The gap keeps a burst's echo out of the next one, and shows the idle level.
FRAME_LENGTH = 2048
#: Back-off of the burst's mean power; its peak is 6.2 dB above the mean for sequence 0, and at most
#: 7 dB for another one.
BACK_OFF_DB = 9.0


def frame(sequence: int = 0) -> ComplexArray:
    """One burst and the gap after it, backed off from full scale, (2048,)."""
    samples = np.zeros(FRAME_LENGTH, dtype=np.complex128)
    scale = math.sqrt(db_to_linear(-BACK_OFF_DB))
    samples[: pilots.BURST_LENGTH] = pilots.burst_waveform(sequence) * scale
    return samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """Description of a repeated burst on the air, for its receiver.

    Parameters
    ----------
    transmitter : str
        Name of the radio, for messages.
    tx_power_w : float, W
        Mean power of a burst at the transmitter's port.
    tx_power_std_db : float, dB
        Its standard uncertainty.
    source : Source
        Source of the power.
    carrier_hz : float, Hz
    sequence : int
        Of the transmitter, see `pilots`.
    serial : str
        Serial number of the transmitter; empty if it is not known.
    """

    transmitter: str
    tx_power_w: float
    tx_power_std_db: float
    source: Source
    carrier_hz: float
    sequence: int = 0
    serial: str = ""


def transmit_pilot(
    transmitter: Radio, settings: RadioSettings, *, sequence: int | None = None
) -> Pilot:
    """Tune a radio and repeat the burst until the radio is silenced.

    Parameters
    ----------
    transmitter : Radio
    settings : RadioSettings
    sequence : int or None
        Of the burst; None takes that of the transmitter's serial number, or of its name.

    Raises
    ------
    RadioError
        If the radio fails; it is silent then.
    """
    settings = transmitter.tune(settings, clamp_gain=True)  # its receiver is not used
    reference, serial = transmitter.reference, transmitter.serial
    if sequence is None:
        sequence = pilots.sequence_of(serial or transmitter.name)
    try:
        transmitter.transmit(frame(sequence))
    except BaseException:
        transmitter.silence()
        raise
    power = burst_mean_square(sequence) * db_to_linear(-BACK_OFF_DB)
    return Pilot(
        transmitter=transmitter.name,
        tx_power_w=reference.tx_power_w(power, settings),
        tx_power_std_db=reference.std_db,
        source=reference.source,
        carrier_hz=settings.carrier_hz,
        sequence=sequence,
        serial=serial,
    )


@lru_cache(maxsize=64)
def burst_mean_square(sequence: int = 0) -> float:
    """Mean square of the burst, near 1."""
    return float(np.mean(np.abs(pilots.burst_waveform(sequence)) ** 2))
