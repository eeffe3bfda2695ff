r"""The ``Radio`` protocol of real, emulated and simulated radios, its settings and power reference.

Samples are complex, full scale 1. A reference ties them to powers at the antenna port:

.. math:: P_{tx} = \overline{|x|^2}\, P_{tx,0}\, 10^{-a/10}, \qquad
          P_{rx} = \overline{|y|^2}\, P_{rx,0}\, 10^{-G/10}

with attenuation :math:`a`, receiver gain :math:`G` (dB) and the powers :math:`P_0` of a full-scale
carrier at 0 dB. They are *measured* by calibration of a unit, or *derived* from typical figures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from siftmoe.radio.channel.link import Source
from siftmoe.radio.units import db_to_linear, dbm_to_watt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    ComplexArray = NDArray[np.complex128]

#: Range of the transmit attenuation of the AD936x.
MAX_ATTENUATION_DB = 89.75


@dataclass(frozen=True, slots=True, kw_only=True)
class RadioSettings:
    """Carrier, sample rate, attenuation and gain of a radio.

    Parameters
    ----------
    carrier_hz, sample_rate_hz : float, Hz
        Of transmitter and receiver.
    tx_attenuation_db : float, dB
        0 to 89.75.
    rx_gain_db : float, dB
        Manual receiver gain.
    """

    carrier_hz: float
    sample_rate_hz: float
    tx_attenuation_db: float
    rx_gain_db: float

    def __post_init__(self) -> None:
        for name in ("carrier_hz", "sample_rate_hz"):
            value = getattr(self, name)
            if not (value > 0.0 and math.isfinite(value)):
                raise ValueError(f"radio settings: {name} must be positive, got {value}")
        if not 0.0 <= self.tx_attenuation_db <= MAX_ATTENUATION_DB:
            raise ValueError(
                f"radio settings: tx_attenuation_db must lie in 0..{MAX_ATTENUATION_DB}, "
                f"got {self.tx_attenuation_db}"
            )
        if not math.isfinite(self.rx_gain_db):
            raise ValueError(f"radio settings: rx_gain_db must be finite, got {self.rx_gain_db}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerReference:
    """Powers of a full-scale carrier at a radio's port.

    Parameters
    ----------
    tx_full_scale_dbm : float, dBm
        At 0 dB attenuation.
    rx_full_scale_dbm : float, dBm
        At 0 dB gain.
    std_db : float, dB
        Standard uncertainty of the transmitter's, and of the receiver's unless ``rx_std_db`` is
        given.
    source : Source
        Of the transmitter's, and of the receiver's unless ``rx_source`` is given: ``MEASURED``
        only for a calibration of this very unit.
    rx_std_db : float or None, dB
    rx_source : Source or None
    """

    tx_full_scale_dbm: float = 7.0
    rx_full_scale_dbm: float = 0.0
    std_db: float = 3.0
    source: Source = Source.DERIVED
    rx_std_db: float | None = None
    rx_source: Source | None = None

    @property
    def receiver_std_db(self) -> float:
        """Standard uncertainty of ``rx_full_scale_dbm``, dB."""
        return self.std_db if self.rx_std_db is None else self.rx_std_db

    @property
    def receiver_source(self) -> Source:
        """Source of ``rx_full_scale_dbm``."""
        return self.source if self.rx_source is None else self.rx_source

    def tx_power_w(self, mean_square: float, settings: RadioSettings) -> float:
        """Transmit power of samples of a mean square, W."""
        full_scale = dbm_to_watt(self.tx_full_scale_dbm)
        return mean_square * full_scale * db_to_linear(-settings.tx_attenuation_db)

    def rx_power_w(self, mean_square: float, settings: RadioSettings) -> float:
        """Received power of samples of a mean square, W."""
        full_scale = dbm_to_watt(self.rx_full_scale_dbm)
        return mean_square * full_scale * db_to_linear(-settings.rx_gain_db)


class Radio(Protocol):
    """One transmitter and one receiver on a common oscillator.

    Every method may raise a ``RadioError``. After ``close`` the transmitter is off and every other
    method raises ``DeviceNotFound``.
    """

    @property
    def name(self) -> str:
        """Name or address of the radio, for messages."""
        ...

    @property
    def serial(self) -> str:
        """Serial number of the unit; empty if it has none."""
        ...

    @property
    def reference(self) -> PowerReference:
        """Full-scale powers, which convert its samples to watt."""
        ...

    def tune(self, settings: RadioSettings, *, clamp_gain: bool = False) -> RadioSettings:
        """Set the radio; this ends a transmission.

        Parameters
        ----------
        settings : RadioSettings
        clamp_gain : bool
            Take the nearest gain of the range at the carrier instead of refusing the gain.

        Returns
        -------
        RadioSettings
            As the radio is set.

        Raises
        ------
        SettingRejected
            If the radio cannot take a value; the settings are then as before.
        """
        ...

    def transmit(self, samples: ComplexArray) -> None:
        """Repeat samples until ``silence``; an earlier transmission is replaced.

        Raises
        ------
        ValueError
            If there are none, or one exceeds full scale.
        """
        ...

    def silence(self) -> None:
        """Stop transmitting."""
        ...

    def receive(self, count: int) -> ComplexArray:
        """Receive ``count`` consecutive samples that were not on the air before the call.

        Raises
        ------
        BufferOverrun
            If samples were lost.
        """
        ...

    def close(self) -> None:
        """Silence and release the radio; a second time does nothing."""
        ...
