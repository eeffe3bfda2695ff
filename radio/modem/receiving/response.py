r"""Response of the channel as 16 taps, fitted to known symbols [D].

With :math:`a_l(k) = e^{-j 2 \pi k l / N}` for carrier k of N and tap l, known symbols X and
received Y give the normal equations

.. math:: \left(\sum_k |X_k|^2 a(k)^* a(k)^T + \delta I\right) g
          = \sum_k X_k^* Y_k a^*(k)

whose matrix is Toeplitz. Sums of different symbols, even of different size, simply add up. A small
ridge :math:`\delta` keeps the taps finite, for which the band is a little too narrow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.radio.compiled import compiled, compiled_fast
from siftmoe.radio.sounding.pilots import MAX_TAPS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ComplexArray = NDArray[np.complex128]
    Carriers = NDArray[np.complex64]
    Float32Array = NDArray[np.float32]
    IntArray = NDArray[np.int64]

#: Ridge of a fit, relative to the known symbols in its sums.
RIDGE = 1e-4


@compiled_fast
def _respond(real: Any, imaginary: Any, taps: Any, response: Any) -> None:
    for k in range(response.shape[0]):
        a, b = np.float32(0), np.float32(0)
        for lag in range(MAX_TAPS):
            c, d = real[k, lag], imaginary[k, lag]
            a += c * taps[lag].real - d * taps[lag].imag
            b += c * taps[lag].imag + d * taps[lag].real
        response[k] = complex(a, b)


@compiled_fast
def _adjoint(real: Any, imaginary: Any, power: Any, values: Any, lags: Any, matched: Any) -> None:
    sums = np.zeros((4, MAX_TAPS), np.float32)
    for k in range(values.shape[0]):
        p, a, b = power[k], values[k].real, values[k].imag
        for lag in range(MAX_TAPS):
            c, d = real[k, lag], imaginary[k, lag]
            sums[0, lag] += p * c
            sums[1, lag] -= p * d
            sums[2, lag] += a * c + b * d
            sums[3, lag] += b * c - a * d
    for lag in range(MAX_TAPS):
        lags[lag] = complex(sums[0, lag], sums[1, lag])
        matched[lag] = complex(sums[2, lag], sums[3, lag])


@compiled
def _solve(lags: Any, ridge: Any, matched: Any, taps: Any) -> None:
    """Solve the Hermitian Toeplitz system by its Cholesky factor."""
    size = lags.shape[0]
    factor = np.zeros((size, size), np.complex128)
    for i in range(size):
        for j in range(i + 1):
            total = lags[i - j]
            if i == j:
                total += ridge
            for k in range(j):
                total -= factor[i, k] * factor[j, k].conjugate()
            if i == j:
                factor[i, i] = math.sqrt(max(total.real, 1e-300))
            else:
                factor[i, j] = total / factor[j, j].real
    for i in range(size):
        total = matched[i]
        for k in range(i):
            total -= factor[i, k] * taps[k]
        taps[i] = total / factor[i, i].real
    for i in range(size - 1, -1, -1):
        total = taps[i]
        for k in range(i + 1, size):
            total -= factor[k, i].conjugate() * taps[k]
        taps[i] = total / factor[i, i].real


class Comb:
    """Carriers of one kind of symbol, and the waves of the taps at them.

    Parameters
    ----------
    size : int
        Transform: carriers are multiples of ``1 / size`` cycles per sample.
    carriers : (K,) int64
    """

    def __init__(self, size: int, carriers: IntArray) -> None:
        angle = -2.0 * math.pi / size * np.outer(carriers, np.arange(MAX_TAPS))
        self._real = np.cos(angle).astype(np.float32)
        self._imaginary = np.sin(angle).astype(np.float32)

    def response(self, taps: ComplexArray) -> Carriers:
        """Response of taps at the carriers, (K,) complex64."""
        response = np.empty(len(self._real), np.complex64)
        _respond(self._real, self._imaginary, taps.astype(np.complex64), response)
        return response

    def sums(self, matched: Carriers, power: Float32Array, *, count: float) -> TapSums:
        r"""Return the sums over symbols on these carriers.

        Parameters
        ----------
        matched : (K,) complex64
            Sums of :math:`X^* Y` per carrier.
        power : (K,) float32
            Sums of :math:`|X|^2` per carrier.
        count : float
            Known symbols.
        """
        lags, right = np.empty((2, MAX_TAPS), np.complex128)
        # The first column of the matrix is sum |X|^2 exp(j 2 pi f l), the right side has X* Y.
        _adjoint(self._real, self._imaginary, power, matched, lags, right)
        return TapSums(lags=lags, matched=right, count=count)


@dataclass(frozen=True, slots=True, kw_only=True)
class TapSums:
    """Sums of the normal equations over known symbols.

    Parameters
    ----------
    lags : (16,) complex128
        First column of the Toeplitz matrix.
    matched : (16,) complex128
        Right side.
    count : float
        Known symbols in the sums.
    """

    lags: ComplexArray
    matched: ComplexArray
    count: float

    def __add__(self, other: TapSums) -> TapSums:
        """Return the sums over the symbols of both."""
        return TapSums(
            lags=self.lags + other.lags,
            matched=self.matched + other.matched,
            count=self.count + other.count,
        )

    def faded(self, share: float) -> TapSums:
        """Return the sums with a lower weight, for symbols of the past."""
        return TapSums(
            lags=self.lags * share, matched=self.matched * share, count=self.count * share
        )

    def taps(self) -> ComplexArray:
        """Solve for the taps, (16,)."""
        taps = np.empty(MAX_TAPS, np.complex128)
        _solve(self.lags, RIDGE * self.count, self.matched, taps)
        return taps
