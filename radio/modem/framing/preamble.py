"""Start of a burst: the sync part of the sounding burst, then pilot symbols if wanted.

::

    | CP | half | half | CP | pilot | ... | header | payload |
      32   128    128    32    256

It is the start of a sounding burst (`radio.sounding.pilots`), so that both are found by the same
search. The sync part alone serves detection, timing, carrier offset and a first estimate of the
response: its halves occupy 100 carriers of the band. Pilot symbols help below some 0 dB.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.sounding import pilots

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ComplexArray = NDArray[np.complex64]

#: Prefix and both halves.
SYNC_LENGTH = pilots.PREFIX + pilots.SYNC_LENGTH
PILOT_LENGTH = pilots.SYMBOL_LENGTH
MAX_PILOTS = pilots.SYMBOLS


def preamble_length(pilot_symbols: int) -> int:
    """Return the number of samples of a preamble.

    Raises
    ------
    ValueError
        If there are not 0 to 4 pilot symbols.
    """
    if not 0 <= pilot_symbols <= MAX_PILOTS:
        raise ValueError(f"preamble: 0 to {MAX_PILOTS} pilot symbols, got {pilot_symbols}")
    return SYNC_LENGTH + pilot_symbols * PILOT_LENGTH


@lru_cache(maxsize=64)
def preamble(sequence: int, pilot_symbols: int) -> ComplexArray:
    """Return the samples of a preamble, mean power 1.

    Parameters
    ----------
    sequence : int
        Of the transmitter, see `radio.sounding.pilots`.
    pilot_symbols : int
        0 to 4.
    """
    burst = pilots.burst_waveform(sequence)
    samples: ComplexArray = burst[: preamble_length(pilot_symbols)].astype(np.complex64)
    samples.setflags(write=False)
    return samples
