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
    received: Any,
    phasors: Any,
    responses: Any,
    span: Any,
    per_unit: Any,
    scale: Any,
    slopes: Any,
    offsets: Any,
    soft: Any,
) -> None:
    """Soft bits of the cells from ``span[0]`` to ``span[1]``, counted through all symbols."""
    bits, width = slopes.shape[1], received.shape[1]
    last, edge = slopes.shape[0] - 1, np.float32(slopes.shape[0] // 2)
    limit = np.float32(127.0)
    for s in range(span[0] // width, (span[1] + width - 1) // width):
        phasor, response = phasors[s], responses[min(s, responses.shape[0] - 1)]
        for k in range(max(span[0] - s * width, 0), min(span[1] - s * width, width)):
            y, h = received[s, k], response[k] * phasor
            power = h.real * h.real + h.imag * h.imag + np.float32(1e-30)
            weight = power * scale
            inverse = per_unit / power
            real = (y.real * h.real + y.imag * h.imag) * inverse
            imaginary = (y.imag * h.real - y.real * h.imag) * inverse
            first = min(int(min(max(real, -edge), edge) + edge), last)
            second = min(int(min(max(imaginary, -edge), edge) + edge), last)
            i = s * width + k - span[0]
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
    """Compute soft bits of received cells, each with a response of its own.

    Parameters
    ----------
    received, response : (n,) complex64
        Symbols y and the response h of their carriers.
    noise, order, scale
        As of ``demap_symbols``.

    Returns
    -------
    (n * order,) int16
    """
    return demap_symbols(
        received[None],
        np.ones(1, np.complex64),
        response[None],
        (0, len(received)),
        noise=noise,
        order=order,
        scale=scale,
    )


def demap_symbols(
    received: ComplexArray,
    phasors: ComplexArray,
    responses: ComplexArray,
    span: tuple[int, int],
    *,
    noise: float,
    order: int,
    scale: float,
) -> Int16Array:
    """Compute soft bits of a range of cells of OFDM symbols.

    Parameters
    ----------
    received : (S, K) complex64
    phasors : (S,) complex64
        Phase of every symbol.
    responses : (1, K) or (S, K) complex64
        Response of the carriers, of all symbols or of each.
    span : (int, int)
        First cell of the range and the one after its last, counted through all symbols.
    noise : float
        Variance of the noise in a cell, in units of the square of ``received``.
    order : int
        Bits per cell.
    scale : float
        Steps per unit of the log-likelihood ratio.

    Returns
    -------
    (cells * order,) int16
        Positive for 0, at most 127.

    Raises
    ------
    ValueError
        If the noise is not positive or the range lies outside of the symbols.
    """
    if not noise > 0.0:
        raise ValueError(f"demapper: the noise variance must be positive, got {noise}")
    if not 0 <= span[0] <= span[1] <= received.size:
        raise ValueError(f"demapper: cells {span} of {received.size}")
    slopes, offsets = pieces(order)
    soft = np.empty((span[1] - span[0], order), np.int16)
    u = unit(order)
    _soft_bits(
        np.ascontiguousarray(received),
        phasors,
        np.ascontiguousarray(responses),
        span,
        np.float32(1.0 / u),
        np.float32(scale * u * u / noise),
        slopes,
        offsets,
        soft,
    )
    return soft.reshape(-1)
