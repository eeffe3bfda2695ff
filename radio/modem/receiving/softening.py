"""Soft bits of symbols, trusted as far as their pilots say [D].

A response that is a block old may be wrong by more than the noise, and an interferer may disturb
single symbols. Either makes wrong soft bits large. The pilots of the symbols show both.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.modem.coding.code import SOFT_SCALE
from siftmoe.radio.modem.symbols.demapper import demap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Cells = NDArray[np.complex64]
    Float32Array = NDArray[np.float32]
    Int16Array = NDArray[np.int16]

#: Error of a symbol's pilots over the noise at which it counts as disturbed. Noise alone exceeds it
#: with probability 1e-7 (chi-square of 16 degrees).
_DISTURBED = 4.0
#: Standard deviations by which the errors of a block's pilots must exceed the noise to be believed.
_BELIEVED = 3.0


def symbol_errors(error: Cells) -> Float32Array:
    """Mean squares of the pilots' errors by symbol, (S,).

    Parameters
    ----------
    error : (S, P) complex64
        Received pilots less the expected ones.
    """
    return np.asarray(np.mean(error.real**2 + error.imag**2, axis=1))


def present_noise(power: Float32Array, *, noise: float, tones: int) -> float:
    """Noise of a block by the errors of its pilots, where these exceed the noise so far.

    Parameters
    ----------
    power : (S,) float32
        Of ``symbol_errors``.
    noise : float
        So far.
    tones : int
        Pilots in a symbol.
    """
    level = float(np.median(power))
    spread = _BELIEVED / math.sqrt(tones * len(power))
    return level if level > noise * (1.0 + spread) else noise


def soft_bits(
    received: Cells, expected: Cells, error: Cells, *, noise: float, order: int
) -> Int16Array:
    """Soft bits of whole symbols.

    Parameters
    ----------
    received, expected : (S, K) complex64
        Cells, and the response times the phase of each.
    error : (S, P) complex64
        Errors of the pilots.
    noise : float
        Variance of a cell.
    order : int
        Bits per symbol.

    Returns
    -------
    (S, K * order) int16
    """
    power = symbol_errors(error)
    noise = present_noise(power, noise=noise, tones=error.shape[1])
    soft = demap(
        received.reshape(-1), expected.reshape(-1), noise=noise, order=order, scale=SOFT_SCALE
    ).reshape(len(received), -1)
    disturbed = power > _DISTURBED * noise
    if disturbed.any():
        weight = noise / np.maximum(power[disturbed, None], np.float32(1e-30))
        soft[disturbed] = np.rint(soft[disturbed] * weight)
    return soft
