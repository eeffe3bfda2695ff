r"""Follows a response that changes within a block, by soft decisions of the symbols [D].

Symbol by symbol the expected value of what was sent, given the response of the symbol before,

.. math:: \bar x = \sum_a a\, p(a | z), \qquad
          p(a | z) \propto e^{-|h|^2 (z - a)^2 / \sigma^2}

(each axis by itself) takes the place of a known symbol in the fit of the taps, and
:math:`\mathrm{E}|x|^2` that of its power: expectation maximisation. With hundreds of cells for 16
taps wrong decisions hardly matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.radio.compiled import compiled_fast
from siftmoe.radio.modem.symbols.constellation import levels, unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.modem.receiving.response import Comb, TapSums

    Cells = NDArray[np.complex64]

#: Samples after which a symbol counts half in the fit.
_HALF_LIFE = 500.0
#: Steps of expectation and fit for every symbol. One alone goes a third of the way.
_STEPS = 3


@compiled_fast
def _expect(
    received: Any,
    phasor: Any,
    response: Any,
    noise: Any,
    amplitudes: Any,
    matched: Any,
    power: Any,
) -> None:
    """Products of the expected symbol's conjugate and the received one; expected powers."""
    likelihood = np.empty(len(amplitudes), np.float32)
    for k in range(len(received)):
        y, h = received[k], response[k]
        real = y.real * phasor.real + y.imag * phasor.imag
        imaginary = y.imag * phasor.real - y.real * phasor.imag
        gain = h.real * h.real + h.imag * h.imag + np.float32(1e-30)
        first = (real * h.real + imaginary * h.imag) / gain
        second = (imaginary * h.real - real * h.imag) / gain
        weight = gain / noise
        a, b, total = np.float32(0), np.float32(0), np.float32(0)
        for axis in range(2):
            z = first if axis == 0 else second
            least = np.float32(1e30)
            for i in range(len(amplitudes)):
                distance = (z - amplitudes[i]) * (z - amplitudes[i]) * weight
                likelihood[i] = distance
                least = min(least, distance)
            norm, mean, square = np.float32(0), np.float32(0), np.float32(0)
            for i in range(len(amplitudes)):
                p = np.exp(least - likelihood[i])
                norm += p
                mean += p * amplitudes[i]
                square += p * amplitudes[i] * amplitudes[i]
            total += square / norm
            if axis == 0:
                a = mean / norm
            else:
                b = mean / norm
        matched[k] = complex(a * real + b * imaginary, a * imaginary - b * real)
        power[k] = total


def follow(
    data: Cells,
    phasors: Cells,
    sums: TapSums,
    *,
    comb: Comb,
    noise: float,
    order: int,
    symbol_length: int,
) -> tuple[list[NDArray[np.complex128]], TapSums]:
    """Taps of every symbol.

    Parameters
    ----------
    data : (S, K) complex64
        Received cells.
    phasors : (S,) complex64
        Phases of the symbols, which are no part of the taps.
    sums : TapSums
        Before the first symbol.
    comb : Comb
        Carriers of the cells.
    noise : float
        Variance of a cell.
    order : int
        Bits per symbol.
    symbol_length : int

    Returns
    -------
    list of (16,) complex128
        Taps at each symbol.
    TapSums
        After the last.
    """
    amplitudes = np.unique(levels(order) * unit(order)).astype(np.float32)
    matched, power = np.empty(data.shape[1], np.complex64), np.empty(data.shape[1], np.float32)
    share = 0.5 ** (symbol_length / _HALF_LIFE)
    taps = []
    # The sums of long ago must not outweigh the first symbol.
    sums = sums.faded(min(1.0, data.shape[1] / max(sums.count, 1.0)))
    for cells, phasor in zip(data, phasors, strict=True):
        latest, before = sums.taps(), sums.faded(share)
        for _ in range(_STEPS):
            response = comb.response(latest)
            _expect(cells, phasor, response, np.float32(noise), amplitudes, matched, power)
            sums = comb.sums(matched, power, count=float(len(cells))) + before
            latest = sums.taps()
        taps.append(latest)
    return taps, sums
