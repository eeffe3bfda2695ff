r"""OFDM symbols: carriers, pilots, the order of data cells, modulation and its inverse.

All numerologies occupy the same band, 200/256 of the sample rate, without DC. Long symbols spend
less on prefix and pilots; short ones waste less at the end of a short burst:

=====  ========  ======  ======  ===================
FFT    carriers  pilots  prefix  payload's share
=====  ========  ======  ======  ===================
256    200       8       16      0.904
512    400       8       16      0.950
1024   800       8       16      0.975
=====  ========  ======  ======  ===================

The share is data cells times FFT over carriers times symbol length. A permutation of the data
cells keeps a notch of the channel from hitting neighbouring coded bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ComplexArray = NDArray[np.complex64]
    IntArray = NDArray[np.int64]

#: Prefix of header and payload symbols: as long as the response that the receiver fits.
PREFIX = 16
_PILOTS = 8
_PILOT_KEY, _ORDER_KEY = 0x3A17, 0x6C05


@dataclass(frozen=True, eq=False)
class Numerology:
    """One size of OFDM symbols.

    Parameters
    ----------
    fft_size : int
    used : int
        Carriers.
    """

    fft_size: int
    used: int

    @property
    def symbol_length(self) -> int:
        """Samples of a symbol with its prefix."""
        return self.fft_size + PREFIX

    @property
    def data_cells(self) -> int:
        """Data symbols in one OFDM symbol."""
        return self.used - _PILOTS

    @cached_property
    def carriers(self) -> IntArray:
        """Carriers in units of their spacing, ascending, (used,)."""
        half = np.arange(1, self.used // 2 + 1)
        return np.concatenate([-half[::-1], half])

    @cached_property
    def pilot_places(self) -> IntArray:
        """Places of the pilots among the carriers, evenly spread, (8,)."""
        return np.asarray(((np.arange(_PILOTS) + 0.5) * self.used / _PILOTS).astype(np.int64))

    @cached_property
    def data_places(self) -> IntArray:
        """Places of the data cells among the carriers, in the order of sending, (data_cells,)."""
        free = np.setdiff1d(np.arange(self.used), self.pilot_places)
        # Raw output of a bit generator is fixed for ever, which a Generator's is not.
        keys = np.random.Philox(key=_ORDER_KEY).random_raw(len(free))
        return np.asarray(free[np.argsort(keys, kind="stable")])

    @cached_property
    def pilots(self) -> ComplexArray:
        """QPSK symbols of the pilots, unit modulus, (8,)."""
        quarter = np.random.Philox(key=_PILOT_KEY).random_raw(_PILOTS) >> np.uint64(62)
        symbols = np.exp(0.5j * math.pi * (quarter.astype(float) + 0.5))
        return np.asarray(symbols, np.complex64)

    def modulate(self, cells: ComplexArray) -> ComplexArray:
        """Turn data cells into samples of mean power 1, symbol by symbol.

        Parameters
        ----------
        cells : (symbols, data_cells) complex

        Returns
        -------
        (symbols * symbol_length,) complex64
        """
        grid = np.zeros((len(cells), self.fft_size), np.complex64)
        grid[:, self.carriers[self.pilot_places]] = self.pilots
        grid[:, self.carriers[self.data_places]] = cells
        body = np.fft.ifft(grid) * np.float32(self.fft_size / math.sqrt(self.used))
        symbols = np.concatenate([body[:, -PREFIX:], body], axis=1)
        return symbols.astype(np.complex64).reshape(-1)

    def demodulate(self, bodies: ComplexArray) -> ComplexArray:
        """Symbols without prefix to their carriers, scaled so that a cell sent as 1 is 1.

        Parameters
        ----------
        bodies : (symbols, fft_size) complex

        Returns
        -------
        (symbols, used) complex64
        """
        spectrum = np.fft.fft(bodies)[:, self.carriers]
        return np.asarray(spectrum * np.float32(math.sqrt(self.used) / self.fft_size), np.complex64)


NUMEROLOGIES = (Numerology(256, 200), Numerology(512, 400), Numerology(1024, 800))
#: The header's, and that of the preamble.
SHORT = NUMEROLOGIES[0]
