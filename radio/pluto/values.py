"""Scaling and ranges of an ADALM-Pluto, and the format of its range attributes.

Transmit samples fill 16 bits of which the converter takes the upper 12; received ones are 12 bits.
Scaling the transmitter to 12 bits instead loses 24 dB and is a well-known mistake.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.errors import SettingRejected

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.device import RadioSettings

    ComplexArray = NDArray[np.complex128]

#: Full scale of the transmit samples (int16).
TX_FULL_SCALE = 2.0**15
#: Full scale of the received samples (12 bits, sign-extended).
RX_FULL_SCALE = 2.0**11
#: The output's attenuator moves in quarters of a dB.
ATTENUATION_STEP_DB = 0.25
#: Rates that pyadi-iio can set: limited below by the decimation, above by the converter.
SAMPLE_RATE_RANGE_HZ = (521e3, 61.44e6)

Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlutoInfo:
    """Identity and ranges of a Pluto.

    Parameters
    ----------
    serial, model, firmware : str
        Empty where the firmware has no such attribute.
    temperature_c : float or None, degree Celsius
        Of the transceiver.
    lo_range_hz, rx_gain_range_db, tx_attenuation_range_db : (float, float) or None
        Least and greatest value; None where the firmware has no such attribute. The gain's range
        depends on the carrier and is that of the present one.
    """

    serial: str
    model: str
    firmware: str
    temperature_c: float | None
    lo_range_hz: Range | None
    rx_gain_range_db: Range | None
    tx_attenuation_range_db: Range | None


def parse_range(text: str) -> Range | None:
    """Least and greatest value of a ``[low step high]`` attribute; None if it is not one."""
    parts = text.strip().removeprefix("[").removesuffix("]").split()
    try:
        low, _, high = (float(part) for part in parts)
    except ValueError:
        return None
    return (low, high) if low <= high else None


def check_settings(settings: RadioSettings, *, name: str) -> None:
    """Refuse settings that no Pluto accepts; ``name`` is the radio's, for the message.

    Raises
    ------
    SettingRejected
    """
    low, high = SAMPLE_RATE_RANGE_HZ
    if not (settings.tx_attenuation_db / ATTENUATION_STEP_DB).is_integer():
        raise SettingRejected(
            f"radio {name!r}: tx_attenuation_db {settings.tx_attenuation_db} is not a multiple of "
            f"{ATTENUATION_STEP_DB} dB"
        )
    if not low <= settings.sample_rate_hz <= high:
        raise SettingRejected(
            f"radio {name!r}: sample rate {settings.sample_rate_hz:.0f} Hz is not in "
            f"{low:.0f}..{high:.0f} Hz"
        )


def to_converter(samples: ComplexArray) -> ComplexArray:
    """Scale samples of full scale 1 to whole steps of the transmit converter.

    Parameters
    ----------
    samples : (n,) complex
        I and Q within -1..1.

    Returns
    -------
    (n,) or (2n,) complex128 of whole numbers
        An odd number of samples is doubled, which a cyclic transmission does not notice and the
        DMA's 8-byte bus needs. +1 becomes 32767, the greatest number there is.

    Raises
    ------
    ValueError
        If there are none, or one exceeds full scale.
    """
    given = np.ascontiguousarray(samples, dtype=np.complex128)
    parts = given.view(np.float64)
    peak = float(np.abs(parts).max()) if parts.size else math.inf
    if given.ndim != 1 or not peak <= 1.0:
        raise ValueError(
            "samples to transmit must exist, in one dimension, and stay within full scale 1; got "
            f"shape {given.shape} with peak {peak}"
        )
    steps = np.minimum(np.round(parts * TX_FULL_SCALE), TX_FULL_SCALE - 1)
    whole = np.asarray(steps.view(np.complex128))
    return np.tile(whole, 2) if len(whole) % 2 else whole


def from_converter(raw: ComplexArray) -> ComplexArray:
    """Scale received steps to full scale 1."""
    return np.asarray(raw, dtype=np.complex128) / RX_FULL_SCALE
