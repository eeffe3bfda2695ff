r"""Converts samples, settings and calibration of a unit to power in watt.

.. math:: P_{tx} = \overline{|x|^2}\; C_{tx}\, 10^{-a/10}, \qquad
          u(P) = P\,\frac{\ln 10}{10}\, u_\text{dB}

with samples :math:`x` of full scale 1 and attenuation :math:`a` in dB. No attribute of a Pluto
gives dBm: without a calibration of the unit itself, C_tx and C_rx are typical figures and the
powers that follow from them are *derived*, ±3 dB.

.. code-block:: python

    store = CalibrationStore.load()  # of `store`
    reference = store.unit(serial).reference(
        carrier_hz=2.4e9, sample_rate_hz=2e6, temperature_c=40.0
    )
    power = transmit_power(mean_square(samples), settings=settings, reference=reference)
    print(power.power_w, power.std_w, power.source)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siftmoe.radio.channel.link import Source
from siftmoe.radio.device import PowerReference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.device import RadioSettings

#: Typical of a Pluto: full-scale carrier at 0 dB attenuation, and at 0 dB gain.
TYPICAL_TX_DBM: Final = 7.0
TYPICAL_RX_DBM: Final = 0.0
TYPICAL_STD_DB: Final = 3.0
#: Up to this rate pyadi-iio loads a FIR filter that interpolates by 4, with taps that sum to 2 at
#: GAIN 0: the transmitter has half the amplitude. Above it interpolates by 2. The receiver's has
#: GAIN -6, which makes up for the sum.
FIR_BY_4_RATE_HZ: Final = 20e6
FIR_BY_4_DB: Final = 20.0 * math.log10(2.0 / 4.0)

_NEPER_PER_DB: Final = math.log(10.0) / 10.0


def typical_tx_dbm(sample_rate_hz: float) -> float:
    """Typical power of a full-scale carrier at 0 dB attenuation at a sample rate, dBm."""
    return TYPICAL_TX_DBM + (FIR_BY_4_DB if sample_rate_hz <= FIR_BY_4_RATE_HZ else 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransmitPower:
    """Mean power at a transmitter's port.

    Parameters
    ----------
    power_w, std_w : float, W
        To first order: at 3 dB the true power is within a factor of 2 either way with 68 %.
    source : Source
    """

    power_w: float
    std_w: float
    source: Source


def mean_square(samples: NDArray[np.complexfloating[Any, Any]]) -> float:
    """Mean of the squared magnitude of samples; 1 for a full-scale carrier.

    Raises
    ------
    ValueError
        If there are no samples.
    """
    if samples.size == 0:
        raise ValueError("mean_square: there are no samples")
    return float(np.mean(samples.real**2 + samples.imag**2, dtype=np.float64))


def transmit_power(
    mean_square: float, *, settings: RadioSettings, reference: PowerReference
) -> TransmitPower:
    """Power at a transmitter's port for samples of a given mean square.

    Parameters
    ----------
    mean_square : float
        Of samples of full scale 1, 0 to 2.
    settings : RadioSettings
    reference : PowerReference

    Raises
    ------
    ValueError
        If no samples can have that mean square.
    """
    if not 0.0 <= mean_square <= 2.0:
        raise ValueError(f"mean_square must lie in 0..2, got {mean_square}")
    power = reference.tx_power_w(mean_square, settings)
    return TransmitPower(
        power_w=power, std_w=power * _NEPER_PER_DB * reference.std_db, source=reference.source
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PathReference:
    """C_tx - C_rx of a pair, which converts two digital levels to a path gain.

    Parameters
    ----------
    difference_db, std_db : float, dB
    source : Source
    """

    difference_db: float
    std_db: float
    source: Source
