"""Analog front end of a simulated radio: oscillator, noise, full-scale powers, converter."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from siftmoe.radio.channel.link import Source
from siftmoe.radio.device import PowerReference
from siftmoe.radio.simulated.impairments import Impairments
from siftmoe.radio.simulated.transmission import quantise

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from siftmoe.radio.device import RadioSettings

    ComplexArray = NDArray[np.complex128]


#: Receiver gains of the AD936x.
RX_GAIN_RANGE_DB = (-3.0, 71.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceModel:
    """Properties of one simulated radio.

    Parameters
    ----------
    ppm : float
        Error of its oscillator, parts per million.
    noise_figure_db : float, dB
    reference : PowerReference
        True full-scale powers, hence known without uncertainty by default.
    impairments : Impairments
        None by default.
    """

    ppm: float = 0.0
    noise_figure_db: float = 5.0
    reference: PowerReference = field(
        default_factory=lambda: PowerReference(std_db=0.0, source=Source.MODELLED)
    )
    impairments: Impairments = field(default_factory=Impairments)


def convert(field_v: ComplexArray, model: DeviceModel, settings: RadioSettings) -> ComplexArray:
    """Convert a field at a device's port to samples of its converter, full scale 1."""
    samples = field_v / math.sqrt(model.reference.rx_power_w(1.0, settings))
    return quantise(model.impairments.distorted(samples))
