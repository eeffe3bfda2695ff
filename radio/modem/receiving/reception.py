"""What the receiver hands over: a burst's header, its payload, and what was measured on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from siftmoe.radio.modem.framing.header import Header


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockReport:
    """One block of a burst.

    Parameters
    ----------
    block : int
        Its number in the payload.
    received : bool
        Whether its checksum holds.
    iterations : int
        Of the decoder.
    evm : float
        Root mean square of the error over that of the symbols; not a number if the block was lost.
    """

    block: int
    received: bool
    iterations: int
    evm: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """A received burst.

    Parameters
    ----------
    header : Header
    payload : bytes or None
        The whole payload; None while blocks are missing.
    missing : tuple of int
        Blocks of the payload that are still missing, whatever burst should have brought them.
    blocks : tuple of BlockReport
        Of this burst.
    start : int
        Sample of the stream at which the burst starts.
    samples : int
        Its length.
    cfo_hz : float, Hz
        Carrier offset of the transmitter.
    gain : float
        Mean square of the response over the carriers: power of the burst in units of full scale.
    noise : float
        Variance of the noise of a cell, in the same units.
    taps : (16,) complex128
        Response at the end of the burst.
    """

    header: Header
    payload: bytes | None
    missing: tuple[int, ...]
    blocks: tuple[BlockReport, ...]
    start: int
    samples: int
    cfo_hz: float
    gain: float
    noise: float
    taps: NDArray[np.complex128]

    @property
    def snr(self) -> float:
        """Mean SNR of a used carrier, linear."""
        return self.gain / self.noise
