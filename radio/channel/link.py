r"""State of a link, and the rate and energy of a transmission over it.

A channel state describes one direction between two devices for one coherence block. Rate and
energy follow Shannon's capacity of a band-limited link with power gain :math:`g`:

.. math:: R = B \log_2\left(1 + \frac{P g}{N_0 B}\right), \qquad
          E(b, \tau) = \frac{\tau N_0 B}{g}\left(2^{b / (B \tau)} - 1\right)

The second is the first solved for the power at which ``b`` bits take exactly :math:`\tau`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

#: log2 of the largest energy ratio that is computed. A load beyond it exceeds every power limit,
#: and 2**x would overflow.
MAX_BITS_PER_HERTZ = 60.0


class Source(str, Enum):
    """How a physical quantity was obtained; sums are kept separate by source."""

    MEASURED = "measured"
    DERIVED = "derived"
    MODELLED = "modelled"


#: Most trustworthy first.
_TRUST = (Source.MEASURED, Source.DERIVED, Source.MODELLED)


def weakest(*sources: Source) -> Source:
    """Source of a quantity that is computed from quantities of these sources."""
    return max(sources, key=_TRUST.index)


class ChannelOrigin(str, Enum):
    """Where a channel state comes from."""

    SOUNDED = "sounded"
    SIMULATED = "simulated"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelState:
    """One direction of one link during one coherence block.

    Parameters
    ----------
    gain : float
        Channel power gain :math:`g = |h|^2`, path loss included, linear.
    noise_psd : float, W/Hz
        Noise power spectral density :math:`N_0` at the receiver.
    bandwidth_hz : float, Hz
        Bandwidth of the link.
    time_s : float, s
        Time of the estimate, on the clock of the program that uses it.
    origin : ChannelOrigin
    gain_std : float
        Standard uncertainty of ``gain``, linear; 0 for a simulated or fixed state.
    gain_source : Source
        The weaker of the sources of transmit power and receiver level.
    noise_psd_std : float, W/Hz
        Standard uncertainty of ``noise_psd``; 0 for a simulated or fixed state.
    noise_source : Source
        Of the receiver's level.
    """

    gain: float
    noise_psd: float
    bandwidth_hz: float
    time_s: float
    origin: ChannelOrigin
    gain_std: float = 0.0
    gain_source: Source = Source.MODELLED
    noise_psd_std: float = 0.0
    noise_source: Source = Source.MODELLED

    def __post_init__(self) -> None:
        for name in ("gain", "noise_psd", "bandwidth_hz"):
            value = getattr(self, name)
            if not (value > 0.0 and math.isfinite(value)):
                raise ValueError(f"channel state: {name} must be positive and finite, got {value}")
        if not (self.gain_std >= 0.0 and self.noise_psd_std >= 0.0 and math.isfinite(self.time_s)):
            raise ValueError(
                "channel state: gain_std and noise_psd_std must not be negative and time_s must be "
                f"finite, got {self.gain_std}, {self.noise_psd_std} and {self.time_s}"
            )

    def age_s(self, now_s: float) -> float:
        """Seconds since the estimate, on the same clock as ``time_s``."""
        return now_s - self.time_s


def _positive(**values: Any) -> None:
    for name, value in values.items():
        if not np.all(np.asarray(value) > 0.0):
            raise ValueError(f"{name} must be positive, got {value!r}")


def shannon_rate(
    *, tx_power_w: ArrayLike, bandwidth_hz: ArrayLike, gain: ArrayLike, noise_psd: ArrayLike
) -> FloatArray:
    r"""Capacity of a link at a transmit power.

    .. math:: R = B \log_2\left(1 + \frac{P g}{N_0 B}\right)

    Parameters
    ----------
    tx_power_w, bandwidth_hz, gain, noise_psd : broadcastable, W, Hz, 1, W/Hz

    Returns
    -------
    float64 of the broadcast shape, bit/s

    Raises
    ------
    ValueError
        If bandwidth, gain or noise is not positive.
    """
    _positive(bandwidth_hz=bandwidth_hz, gain=gain, noise_psd=noise_psd)
    band = np.asarray(bandwidth_hz, dtype=np.float64)
    snr = np.asarray(tx_power_w) * np.asarray(gain) / (np.asarray(noise_psd) * band)
    rate: FloatArray = band * np.log1p(snr) / math.log(2.0)
    return rate


def transmit_energy(
    *,
    payload_bits: ArrayLike,
    airtime_s: ArrayLike,
    bandwidth_hz: ArrayLike,
    gain: ArrayLike,
    noise_psd: ArrayLike,
) -> FloatArray:
    r"""Least energy that delivers a payload in a given airtime over an AWGN link.

    .. math:: E = \frac{\tau N_0 B}{g}\left(2^{b / (B \tau)} - 1\right)

    Parameters
    ----------
    payload_bits : broadcastable, bit
        Payload :math:`b`.
    airtime_s : broadcastable, s
        Airtime :math:`\tau`.
    bandwidth_hz, gain, noise_psd : broadcastable, Hz, 1, W/Hz

    Returns
    -------
    float64 of the broadcast shape, J
        Infinite beyond ``MAX_BITS_PER_HERTZ`` bit/s/Hz, which no power reaches.

    Raises
    ------
    ValueError
        If airtime, bandwidth, gain or noise is not positive, or a payload is negative.

    Notes
    -----
    Shannon's capacity solved for power; SiftMoE (arXiv 2603.23888) names its parameters, the
    formula is this project's reading (docs/explanation/theory.md, section 0).
    """
    _positive(airtime_s=airtime_s, bandwidth_hz=bandwidth_hz, gain=gain, noise_psd=noise_psd)
    bits = np.asarray(payload_bits, dtype=np.float64)
    if np.any(bits < 0.0):
        raise ValueError(f"payload_bits must not be negative, got {payload_bits!r}")
    tau = np.asarray(airtime_s, dtype=np.float64)
    band = np.asarray(bandwidth_hz, dtype=np.float64)
    bits_per_hertz = bits / (band * tau)
    growth = np.expm1(math.log(2.0) * np.minimum(bits_per_hertz, MAX_BITS_PER_HERTZ))
    energy = tau * np.asarray(noise_psd) * band / np.asarray(gain) * growth
    result: FloatArray = np.where(bits_per_hertz > MAX_BITS_PER_HERTZ, np.inf, energy)
    return result


def payload_capacity(
    *,
    tx_power_w: ArrayLike,
    airtime_s: ArrayLike,
    bandwidth_hz: ArrayLike,
    gain: ArrayLike,
    noise_psd: ArrayLike,
) -> FloatArray:
    """Most bits that a link carries in an airtime under a power limit, bit."""
    _positive(airtime_s=airtime_s)
    rate = shannon_rate(
        tx_power_w=tx_power_w, bandwidth_hz=bandwidth_hz, gain=gain, noise_psd=noise_psd
    )
    capacity: FloatArray = rate * np.asarray(airtime_s, dtype=np.float64)
    return capacity
