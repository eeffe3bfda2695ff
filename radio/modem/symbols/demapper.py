r"""Soft bits of received symbols: exact max-log, as linear pieces [D].

For :math:`y = h s + n` with noise variance :math:`\sigma^2` and :math:`z = y / h`, the max-log
ratio of a bit of one axis is

.. math:: \lambda = \frac{|h|^2}{\sigma^2}
          \left[\min_{a: b = 1} (z - a)^2 - \min_{a: b = 0} (z - a)^2\right].

The levels are odd multiples of a unit u, so that the nearest levels of either bit change only at
whole multiples of u. Between these both squares share :math:`z^2`: the ratio is a straight line
whose slope and offset stand in a table.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.radio.compiled import compiled_fast
from siftmoe.radio.modem.symbols.constellation import levels, unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ComplexArray = NDArray[np.complex64]
    FloatArray = NDArray[np.float32]
    Int16Array = NDArray[np.int16]


@lru_cache(maxsize=4)
def pieces(order: int) -> tuple[FloatArray, FloatArray]:
    """Slope and offset by interval and bit of an axis, each (2^(order/2 + 1), order/2) float32.

    Interval i is [i - c, i - c + 1) in units of the innermost level, with c half their number;
    the first and the last one are open.
    """
    bits, amplitude = order // 2, levels(order)
    intervals = np.arange(2 * len(amplitude)) - len(amplitude) + 0.5
    slopes = np.empty((len(intervals), bits), np.float32)
    offsets = np.empty_like(slopes)
    for bit in range(bits):
        one = (np.arange(len(amplitude)) >> (bits - 1 - bit) & 1).astype(bool)
        near = [
            choice[np.abs(intervals[:, None] - choice).argmin(axis=1)]
            for choice in (amplitude[~one], amplitude[one])
        ]
        slopes[:, bit] = 2.0 * (near[0] - near[1])
        offsets[:, bit] = near[1] ** 2 - near[0] ** 2
    return slopes, offsets


@compiled_fast
def _soft_bits(
    received: Any, response: Any, per_unit: Any, scale: Any, slopes: Any, offsets: Any, soft: Any
) -> None:
    bits = slopes.shape[1]
    last, middle = slopes.shape[0] - 1, slopes.shape[0] // 2
    limit = np.float32(127.0)
    for i in range(len(received)):
        y, h = received[i], response[i]
        power = h.real * h.real + h.imag * h.imag + np.float32(1e-30)
        weight = power * scale
        inverse = per_unit / power
        real = (y.real * h.real + y.imag * h.imag) * inverse
        imaginary = (y.imag * h.real - y.real * h.imag) * inverse
        edge = np.float32(middle)
        first = int(min(max(real, -edge), edge) + edge)
        second = int(min(max(imaginary, -edge), edge) + edge)
        first, second = min(first, last), min(second, last)
        for bit in range(bits):
            value = (slopes[first, bit] * real + offsets[first, bit]) * weight
            soft[i, 2 * bit] = np.int16(np.rint(min(max(value, -limit), limit)))
            value = (slopes[second, bit] * imaginary + offsets[second, bit]) * weight
            soft[i, 2 * bit + 1] = np.int16(np.rint(min(max(value, -limit), limit)))


def demap(
    received: ComplexArray,
    response: ComplexArray,
    *,
    noise: float,
    order: int,
    scale: float,
) -> Int16Array:
    """Compute soft bits of received symbols.

    Parameters
    ----------
    received, response : (n,) complex64
        Symbols y and the response h of their carriers.
    noise : float
        Variance of the noise in a symbol, in units of the square of ``received``.
    order : int
        Bits per symbol.
    scale : float
        Steps per unit of the log-likelihood ratio.

    Returns
    -------
    (n * order,) int16
        Positive for 0, at most 127.

    Raises
    ------
    ValueError
        If the noise is not positive.
    """
    if not noise > 0.0:
        raise ValueError(f"demapper: the noise variance must be positive, got {noise}")
    slopes, offsets = pieces(order)
    soft = np.empty((len(received), order), np.int16)
    u = unit(order)
    _soft_bits(
        np.ascontiguousarray(received),
        np.ascontiguousarray(response),
        np.float32(1.0 / u),
        np.float32(scale * u * u / noise),
        slopes,
        offsets,
        soft,
    )
    return soft.reshape(-1)
