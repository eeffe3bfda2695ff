"""Soft bits of symbols, trusted as far as their pilots say [D].

A response that is a block old may be wrong by more than the noise, and an interferer may disturb
single symbols. Either makes wrong soft bits large. The pilots of the symbols show both.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.radio.compiled import compiled_fast
from siftmoe.radio.modem.coding.code import SOFT_SCALE
from siftmoe.radio.modem.symbols.demapper import demap_symbols

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


@compiled_fast
def _symbol_errors(tones: Any, phasors: Any, expected: Any, power: Any) -> None:
    for s in range(tones.shape[0]):
        row, total = expected[min(s, expected.shape[0] - 1)], np.float32(0)
        for k in range(tones.shape[1]):
            error = tones[s, k] - row[k] * phasors[s]
            total += error.real * error.real + error.imag * error.imag
        power[s] = total / tones.shape[1]


def symbol_errors(tones: Cells, phasors: Cells, expected: Cells) -> Float32Array:
    """Mean squares of the pilots' errors by symbol, (S,).

    Parameters
    ----------
    tones : (S, P) complex64
        Received pilots.
    phasors : (S,) complex64
        Phases of the symbols.
    expected : (1, P) or (S, P) complex64
        Pilots through the response, of all symbols or of each.
    """
    power = np.empty(len(tones), np.float32)
    _symbol_errors(tones, phasors, expected, power)
    return power


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
    level = float(np.sort(power)[len(power) // 2])
    spread = _BELIEVED / math.sqrt(tones * len(power))
    return level if level > noise * (1.0 + spread) else noise


def soft_bits(
    data: Cells,
    phasors: Cells,
    responses: Cells,
    power: Float32Array,
    span: tuple[int, int],
    *,
    noise: float,
    order: int,
    tones: int,
) -> Int16Array:
    """Soft bits of a range of cells of whole symbols.

    Parameters
    ----------
    data, phasors, responses, span
        As of `demapper.demap_symbols`.
    power : (S,) float32
        Of ``symbol_errors``.
    noise : float
        Variance of a cell.
    order : int
        Bits per cell.
    tones : int
        Pilots in a symbol.

    Returns
    -------
    (cells * order,) int16
    """
    noise = present_noise(power, noise=noise, tones=tones)
    soft = demap_symbols(data, phasors, responses, span, noise=noise, order=order, scale=SOFT_SCALE)
    width = data.shape[1]
    for symbol in np.flatnonzero(power > _DISTURBED * noise).tolist():
        first = max(symbol * width - span[0], 0) * order
        last = (min((symbol + 1) * width, span[1]) - span[0]) * order
        weight = noise / max(float(power[symbol]), 1e-30)
        soft[first:last] = np.rint(soft[first:last] * weight)
    return soft
