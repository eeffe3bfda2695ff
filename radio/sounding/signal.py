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
#: Back-off of the burst's mean power; its peak is 6.2 dB above the mean, so 2.8 dB are left.
BACK_OFF_DB = 9.0


def frame() -> ComplexArray:
    """One burst and the gap after it, backed off from full scale, (2048,)."""
    samples = np.zeros(FRAME_LENGTH, dtype=np.complex128)
    samples[: pilots.BURST_LENGTH] = pilots.burst_waveform() * math.sqrt(db_to_linear(-BACK_OFF_DB))
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
    """

    transmitter: str
    tx_power_w: float
    tx_power_std_db: float
    source: Source
    carrier_hz: float


def transmit_pilot(transmitter: Radio, settings: RadioSettings) -> Pilot:
    """Tune a radio and repeat the burst until the radio is silenced.

    Raises
    ------
    RadioError
        If the radio fails; it is silent then.
    """
    transmitter.tune(settings)
    reference = transmitter.reference
    try:
        transmitter.transmit(frame())
    except BaseException:
        transmitter.silence()
        raise
    power = burst_mean_square() * db_to_linear(-BACK_OFF_DB)
    return Pilot(
        transmitter=transmitter.name,
        tx_power_w=reference.tx_power_w(power, settings),
        tx_power_std_db=reference.std_db,
        source=reference.source,
        carrier_hz=settings.carrier_hz,
    )


@lru_cache(maxsize=1)
def burst_mean_square() -> float:
    """Mean square of the burst, near 1."""
    return float(np.mean(np.abs(pilots.burst_waveform()) ** 2))
