r"""Mutual information of constellations and soft bits, and the error vector magnitude.

A receiver that decides bit by bit gets at most the sum of the bits' mutual informations (bit-
interleaved coded modulation, Caire, Taricco and Biglieri 1998):

.. math:: I = \sum_j \left(1 - \mathrm{E} \log_2 \left(1 + e^{-(1 - 2 b_j) \lambda_j}\right)\right)

with the exact log-likelihood ratios :math:`\lambda_j`. It is computed by quadrature over one
axis, since both axes are alike.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.modem.symbols.constellation import levels, unit
from siftmoe.radio.units import db_to_linear

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]
    ComplexArray = NDArray[np.complex64]
    Bits = NDArray[np.uint8]

#: Grid of the tables, dB of SNR; outside of it the information is 0 or all bits within 1e-3.
_LOW_DB, _HIGH_DB, _STEP_DB = -30.0, 45.0, 0.25
#: Standard deviations and points of the quadrature over the noise.
_REACH, _POINTS = 7.0, 201


def bit_information(snr: float, order: int) -> float:
    """Mutual information of a constellation in white noise, received bit by bit.

    Parameters
    ----------
    snr : float
        Symbol energy over noise variance, linear.
    order : int
        Bits per symbol.

    Returns
    -------
    float, bit per symbol

    Raises
    ------
    ValueError
        If the SNR is not positive.
    """
    if not snr > 0.0:
        raise ValueError(f"information: the SNR must be positive and linear, got {snr}")
    sigma = math.sqrt(0.5 / snr)  # of one axis
    amplitude = levels(order) * unit(order)
    noise = np.linspace(-_REACH, _REACH, _POINTS)
    weight = np.exp(-0.5 * noise**2)
    weight /= weight.sum()
    received = amplitude[:, None] + sigma * noise  # [levels, points]
    exponent = -0.5 * ((received[..., None] - amplitude) / sigma) ** 2
    likelihood = np.exp(exponent - exponent.max(axis=-1, keepdims=True))  # [levels, points, levels]
    total = likelihood.sum(axis=-1)
    information = 0.0
    for bit in range(order // 2):
        value = np.arange(len(amplitude)) >> bit & 1
        same = np.stack([likelihood[i][:, value == value[i]].sum(-1) for i in range(len(value))])
        information += 1.0 + float(np.mean(np.log2(same / total) @ weight))
    return 2.0 * max(information, 0.0)


@lru_cache(maxsize=4)
def _curve(order: int) -> tuple[FloatArray, FloatArray]:
    grid = np.arange(_LOW_DB, _HIGH_DB + _STEP_DB, _STEP_DB)
    return grid, np.array([bit_information(10.0 ** (db / 10.0), order) for db in grid])


def mean_information(snr: ArrayLike, order: int) -> float:
    """Mutual information averaged over carriers of different SNR, bit per symbol.

    Parameters
    ----------
    snr : (...), linear
        Of every carrier; 0 counts as no information.
    order : int

    Raises
    ------
    ValueError
        If one is negative or not a number.
    """
    values = np.asarray(snr, dtype=np.float64)
    if not np.all(values >= 0.0):
        raise ValueError("information: every SNR must be at least 0 and linear")
    grid, curve = _curve(order)
    decibel = 10.0 * np.log10(np.maximum(values, 1e-12))
    return float(np.interp(decibel, grid, curve, left=0.0).mean())


def snr_for_information(bits: float, order: int) -> float:
    """SNR at which a constellation carries so many bits per symbol, linear.

    Raises
    ------
    ValueError
        If it never carries as many.
    """
    grid, curve = _curve(order)
    if not 0.0 < bits < curve[-1]:
        raise ValueError(f"information: {bits} bits do not lie between 0 and {order} per symbol")
    return db_to_linear(float(np.interp(bits, curve, grid)))


def effective_snr(snr: ArrayLike, order: int) -> float:
    """SNR of white noise in which a constellation carries as much as over these carriers [D].

    Parameters
    ----------
    snr : (K,), linear
    order : int

    Returns
    -------
    float
        Linear; limited to the range of the table.
    """
    grid, curve = _curve(order)
    bits = min(max(mean_information(snr, order), curve[0]), curve[-1])
    return max(db_to_linear(_LOW_DB), db_to_linear(float(np.interp(bits, curve, grid))))


def soft_information(soft: ArrayLike, bits: Bits, *, scale: float) -> float:
    """Mutual information that soft bits carry about the bits that were sent, bit per bit.

    Parameters
    ----------
    soft : (n,)
        Log-likelihood ratios times ``scale``, positive for 0.
    bits : (n,) uint8
        As sent, after decoding.
    scale : float
    """
    ratio = np.asarray(soft, dtype=np.float64) / scale
    signed = np.where(bits, -ratio, ratio)
    lost = np.logaddexp(0.0, -signed) / math.log(2.0)
    return 1.0 - float(lost.mean())


def error_vector_magnitude(equalised: ComplexArray, sent: ComplexArray) -> float:
    r"""Root of the error's power over the symbols' power.

    .. math:: \mathrm{EVM} = \sqrt{\frac{\sum |z - s|^2}{\sum |s|^2}}

    For an unbiased receiver in white noise it is :math:`1 / \sqrt{\gamma}`.

    Parameters
    ----------
    equalised, sent : (n,) complex
    """
    error = np.abs(equalised - sent) ** 2
    return math.sqrt(float(error.sum()) / float((np.abs(sent) ** 2).sum()))


def shannon_gap(snr: float, efficiency: float) -> float:
    r"""Factor by which an SNR exceeds what Shannon's capacity needs for an efficiency.

    .. math:: \Gamma = \frac{\gamma}{2^{\eta} - 1}

    Parameters
    ----------
    snr : float, linear
    efficiency : float, bit/s/Hz

    Raises
    ------
    ValueError
        If one of them is not positive.
    """
    if not (efficiency > 0.0 and snr > 0.0):
        raise ValueError(
            f"information: SNR and efficiency must be positive, got {snr}, {efficiency}"
        )
    needed: float = 2.0**efficiency - 1.0
    return snr / needed
