r"""Constellations of 5G NR: QPSK, 16QAM, 64QAM, 256QAM, Gray-mapped, unit mean power.

The even bits of a symbol choose its real part, the odd bits its imaginary part, each by the same
Gray mapping of an amplitude (3GPP TS 38.211 V17, 5.1). For 16QAM

.. math:: d = \frac{1}{\sqrt{10}} \left[(1 - 2 b_0)(2 - (1 - 2 b_2)) +
              j (1 - 2 b_1)(2 - (1 - 2 b_3))\right].
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.radio.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bits = NDArray[np.uint8]
    FloatArray = NDArray[np.float64]
    ComplexArray = NDArray[np.complex64]

#: Bits per symbol of the constellations.
ORDERS = (2, 4, 6, 8)


def unit(order: int) -> float:
    """Amplitude of the innermost level of an axis; the levels are its odd multiples."""
    return 1.0 / math.sqrt(2.0 * (4.0 ** (_check(order) // 2) - 1.0) / 3.0)


def _check(order: int) -> int:
    if order not in ORDERS:
        raise ValueError(f"constellation: bits per symbol must be one of {ORDERS}, got {order}")
    return order


@lru_cache(maxsize=len(ORDERS))
def levels(order: int) -> FloatArray:
    """Amplitudes of one axis in units of ``unit``, by the value of its bits, (2^(order/2),)."""
    bits = _check(order) // 2
    value = np.arange(2**bits)
    amplitude = np.zeros(2**bits)
    for position in range(bits):  # the last bit is the innermost
        sign = 1.0 - 2.0 * (value >> position & 1)
        amplitude = sign * (2.0**position - amplitude)
    amplitude.setflags(write=False)
    return amplitude


@lru_cache(maxsize=len(ORDERS))
def points(order: int) -> ComplexArray:
    """Symbols by the value of their bits, the first bit the most significant, (2^order,)."""
    value = np.arange(2 ** _check(order))
    real, imaginary = np.zeros_like(value), np.zeros_like(value)
    for position in range(order // 2):
        real = real << 1 | value >> (order - 1 - 2 * position) & 1
        imaginary = imaginary << 1 | value >> (order - 2 - 2 * position) & 1
    symbols = unit(order) * (levels(order)[real] + 1j * levels(order)[imaginary])
    table = symbols.astype(np.complex64)
    table.setflags(write=False)
    return table


def modulate(bits: Bits, order: int) -> ComplexArray:
    """Map bits to symbols.

    Parameters
    ----------
    bits : (n,) uint8, 0 or 1
        n is a multiple of ``order``.
    order : int
        Bits per symbol: 2, 4, 6 or 8.

    Returns
    -------
    (n / order,) complex64

    Raises
    ------
    ValueError
        If the order does not exist or the bits are no whole symbols.
    """
    if len(bits) % _check(order):
        raise ValueError(f"constellation: {len(bits)} bits are no symbols of {order} bits")
    symbols = np.empty(len(bits) // order, np.complex64)
    _modulate(bits, points(order), order, symbols)
    return symbols


@compiled
def _modulate(bits: Any, table: Any, order: Any, symbols: Any) -> None:
    for i in range(len(symbols)):
        value = 0
        for position in range(order):
            value = value << 1 | bits[i * order + position]
        symbols[i] = table[value]
