r"""Response of the channel as 16 taps, fitted to known symbols [D].

With :math:`a_l(k) = e^{-j 2 \pi k l / N}` for carrier k of N and tap l, known symbols X and
received Y give the normal equations

.. math:: \left(\sum_k |X_k|^2 a(k) a(k)^H + \frac{\sigma^2}{p} I\right) g
          = \sum_k X_k^* Y_k a^*(k)

whose matrix is Toeplitz. Sums of different symbols, even of different size, simply add up. The
small ridge, noise over the power p of a tap, keeps the edge of the band from being blown up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.sounding.pilots import MAX_TAPS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ComplexArray = NDArray[np.complex128]
    Carriers = NDArray[np.complex64]
    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

_LAGS = np.abs(np.subtract.outer(np.arange(MAX_TAPS), np.arange(MAX_TAPS)))
_UPPER = np.arange(MAX_TAPS) > np.arange(MAX_TAPS)[:, None]


def waves(fractions: FloatArray) -> Carriers:
    r"""Waves :math:`e^{-j 2 \pi f l}` of the taps at carriers in cycles per sample, (K, 16)."""
    lags = np.arange(MAX_TAPS)
    return np.exp(-2j * math.pi * np.outer(fractions, lags)).astype(np.complex64)


@lru_cache(maxsize=16)
def carrier_waves(fft_size: int, carriers: tuple[int, ...]) -> Carriers:
    """Waves at carriers in units of their spacing; cached."""
    return waves(np.array(carriers) / fft_size)


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
        """Sums over the symbols of both."""
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

    def taps(self, ridge: float) -> ComplexArray:
        """Solve for the taps, (16,).

        Parameters
        ----------
        ridge : float
            Added to the diagonal: noise variance over the power of a tap.
        """
        column = self.lags[_LAGS]
        matrix = np.where(_UPPER, column.conj(), column)
        matrix[np.diag_indices(MAX_TAPS)] += ridge
        return np.asarray(np.linalg.solve(matrix, self.matched))


def tap_sums(basis: Carriers, matched: Carriers, power: FloatArray, *, count: float) -> TapSums:
    r"""Sums over symbols on carriers.

    Parameters
    ----------
    basis : (K, 16) complex64
        Waves of the carriers.
    matched : (K,) complex
        Sums of :math:`X^* Y` per carrier.
    power : (K,) float
        Sums of :math:`|X|^2` per carrier.
    count : float
        Known symbols.
    """
    both = np.stack([power.astype(np.complex64), matched.astype(np.complex64)])
    # The column of the matrix is sum |X|^2 exp(j 2 pi f l), as is the right side with X* Y.
    lags, right = (both @ basis.conj()).astype(np.complex128)
    return TapSums(lags=lags, matched=right, count=count)
