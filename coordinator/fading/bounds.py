r"""References for energies under fast fading: truncated inversion and the offline optimum.

Units as in ``energy_to_go``; all of this is our derivation (docs/explanation/theory.md, section 3).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import exp1

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.fading.energy_to_go import SlottedLink

    FloatArray = NDArray[np.float64]

#: Halvings of the logarithm of the water level.
_BISECTIONS = 100


def truncated_inversion(
    *,
    payload_bits: float,
    slot_s: float,
    bandwidth_hz: float,
    noise_psd: float,
    mean_gain: float,
    cutoff_gain: float,
) -> tuple[float, float]:
    r"""Compute the expected energy of one Rayleigh slot in which low gains are not used.

    .. math:: \mathbb E = \tau N_0 B \, (2^\beta - 1)\, \frac{E_1(g_0 / \bar g)}{\bar g}, \qquad
              \Pr[\text{outage}] = 1 - e^{-g_0 / \bar g}

    Parameters
    ----------
    payload_bits, slot_s, bandwidth_hz, noise_psd
        Payload (bit), airtime (s), bandwidth (Hz), noise density (W/Hz).
    mean_gain, cutoff_gain : float
        :math:`\bar g` and :math:`g_0`.

    Returns
    -------
    energy_j : float, J
    outage : float
        Probability that nothing is sent.
    """
    if not (mean_gain > 0.0 and cutoff_gain > 0.0):
        raise ValueError(f"gains must be positive, got {mean_gain} and {cutoff_gain}")
    ratio = cutoff_gain / mean_gain
    growth = math.expm1(math.log(2.0) * payload_bits / (bandwidth_hz * slot_s))
    energy = slot_s * noise_psd * bandwidth_hz * growth * float(exp1(ratio)) / mean_gain
    return energy, -math.expm1(-ratio)


def offline_energy(link: SlottedLink, gains: FloatArray, *, payload_bits: float) -> FloatArray:
    r"""Least energy with all gains known beforehand, priced outage included.

    .. math:: b_m = \min\left(\log_2\left(1 + \tfrac{P g_m}{N_0 B}\right),
              [\log_2 \nu g_m]^+\right), \qquad \sum_m b_m \le \beta,\ \nu \le \Lambda / \ln 2

    Water-filling over the slots; no causal rule needs less for these gains.

    Parameters
    ----------
    link : SlottedLink
        Its law of the gain is not used.
    gains : (R, M) float64
        Gains of R draws.
    payload_bits : float, bit

    Returns
    -------
    (R,) float64, J
    """
    hertz_s = link.bandwidth_hz * link.slot_s
    beta = payload_bits / hertz_s
    snr = link.tx_power_limit_w * gains / (link.noise_psd * link.bandwidth_hz)
    cap = np.log1p(snr) / math.log(2.0)  # [R, M]
    highest = math.log2(link.outage_price_j / link.noise_psd / math.log(2.0))

    def fill(level: FloatArray) -> FloatArray:
        return np.minimum(cap, np.maximum(level[:, None] + np.log2(gains), 0.0))  # [R, M]

    high = np.full(len(gains), highest)
    low = np.minimum(-np.log2(gains.max(axis=1)), highest)  # nothing is sent at this level
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        over = fill(middle).sum(axis=1) > beta
        high = np.where(over, middle, high)
        low = np.where(over, low, middle)
    sent = fill(low)  # [R, M]
    energy = np.expm1(math.log(2.0) * sent) / gains * (link.noise_psd * hertz_s)
    left = np.maximum(beta - sent.sum(axis=1), 0.0) * hertz_s
    result: FloatArray = energy.sum(axis=1) + link.outage_price_j * left
    return result
