r"""Least energy where helpers share a band: the band divided among those that are sent something.

In the rest of the product every helper has a band of its own, so the energy of a layer is a sum of
terms in the loads, which is what the selection's proofs rest on. Here one band B is divided after
the selection, as JESA's subcarriers are (arXiv 2503.13421; the form is ours):

.. math:: \min_{B_n} \sum_n \frac{\tau N_0 B_n}{g_n}\left(2^{b_n/(B_n\tau)} - 1\right)
          \quad \text{s.t.} \quad \sum_n B_n = B

It is convex. With a price :math:`\nu` on bandwidth and :math:`u_n = b_n \ln 2/(B_n \tau)`, the best
:math:`u_n` solves :math:`u e^u - e^u + 1 = \nu g_n/(\tau N_0)`, so
:math:`u = 1 + W_0\big((\nu g_n/(\tau N_0) - 1)/e\big)`; the price at which the bands add up to B is
found by bisection.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.optimize import brentq
from scipy.special import lambertw

from siftmoe.radio.channel.link import transmit_energy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

#: Bands add up to the whole within this share of it.
_TOLERANCE: Final = 1e-12
#: Newton steps that make up for the digits that Lambert's function loses near -1/e.
_POLISH: Final = 3
#: Below this the function is 1/2 u^2 to within a few percent, and Newton's method does the rest.
_SMALL: Final = 1e-3


def share_band(
    payload_bits: FloatArray,
    *,
    airtime_s: float,
    band_hz: float,
    gain: FloatArray,
    noise_psd: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Divide a band among helpers at least energy.

    Parameters
    ----------
    payload_bits : (N,) float64, bit
        Sent to each helper; 0 gets no band.
    airtime_s : float, s
        Of all bursts.
    band_hz : float, Hz
    gain, noise_psd : (N,) float64, 1 and W/Hz

    Returns
    -------
    bandwidth_hz, energy_j : (N,) float64
        Power limits are not looked at.

    Raises
    ------
    ValueError
        If a payload is negative, or airtime, band, a gain or a noise density is not positive.
    """
    if not (payload_bits >= 0.0).all():
        raise ValueError(f"payload_bits must not be negative, got {payload_bits}")
    for name, value in (("airtime_s", airtime_s), ("band_hz", band_hz)):
        if not 0.0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
    if not (gain > 0.0).all() or not (noise_psd > 0.0).all():
        raise ValueError("gains and noise densities must be positive")
    bandwidth = np.zeros_like(payload_bits)
    busy = payload_bits > 0.0
    if busy.any():
        bandwidth[busy] = _divided(
            payload_bits[busy] * math.log(2.0) / airtime_s,
            airtime_s * noise_psd[busy] / gain[busy],
            band_hz,
        )
    energy = np.zeros_like(payload_bits)
    energy[busy] = transmit_energy(
        payload_bits=payload_bits[busy],
        airtime_s=airtime_s,
        bandwidth_hz=bandwidth[busy],
        gain=gain[busy],
        noise_psd=noise_psd[busy],
    )
    return bandwidth, energy


def _divided(nats: FloatArray, unit: FloatArray, band: float) -> FloatArray:
    """Bandwidths, (N,) Hz, that add up to the band; nats per second, joule per hertz."""

    def over(log_price: float) -> float:
        return float((nats / _exponent(math.exp(log_price) / unit)).sum()) / band - 1.0

    # at the price that makes u of one helper that of the even split of the whole, the bands of all
    # others are known to be too large or too small; the two extremes enclose the price
    even = nats.sum() / band
    at = np.log(unit * _marginal(even))
    low, high = float(at.min()) - 1e-9, float(at.max()) + 1e-9
    price = (
        low
        if over(low) <= 0.0
        else high
        if over(high) >= 0.0
        else brentq(over, low, high, xtol=_TOLERANCE)
    )
    found = nats / _exponent(math.exp(price) / unit)
    result: FloatArray = found * (band / found.sum())
    return result


def _marginal(u: float) -> float:
    """Energy that a hertz saves, in units, at the exponent u."""
    return u * math.exp(u) - math.expm1(u)


def _exponent(price: FloatArray) -> FloatArray:
    """Solve :math:`u e^u - e^u + 1 = p` for u."""
    argument: Any = (price - 1.0) / math.e
    u = 1.0 + np.asarray(lambertw(argument)).real
    u = np.where(price < _SMALL, np.sqrt(2.0 * price), u)
    for _ in range(_POLISH):
        u = u - (u * np.exp(u) - np.expm1(u) - price) / (u * np.exp(u))
    result: FloatArray = u
    return result
