r"""The sounding burst.

::

    | CP | half | half | CP | pilot | CP | pilot | CP | pilot | CP | pilot |
      32   128    128    32    256     32    256    32    256    32    256      1,440 samples

- *Sync*: a random-QPSK half of 128 samples sent twice. Random, since a Zadoff-Chu sequence trades
  timing against frequency; a half is longer than the cyclic prefix (CP), since a shorter repeat
  is ambiguous; both halves are cyclic, thanks to the prefix.
- *Pilots*: the same OFDM symbol four times, 200 of 256 carriers, DC empty.

The halves occupy every other of the pilots' carriers, so the whole burst is band-limited to
200/256 of the sample rate. Its mean power is 1.

The QPSK symbols follow from a *sequence* number. Each transmitter has its own, so that a receiver
does not take another transmitter's burst for the one that it measures. Sequence 0 is that of all
transmitters that name none.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ComplexArray = NDArray[np.complex128]
    IntArray = NDArray[np.int64]

FFT_SIZE = 256
USED_CARRIERS = 200
PREFIX = 32
HALF = 128
SYMBOLS = 4
SYNC_LENGTH = 2 * HALF
SYMBOL_LENGTH = PREFIX + FFT_SIZE
BURST_LENGTH = PREFIX + SYNC_LENGTH + SYMBOLS * SYMBOL_LENGTH
#: Taps of a channel that the burst resolves; the prefix leaves as many for a late start.
MAX_TAPS = 16

# Streams of the random QPSK symbols of sequence 0; of 2,000 tried each, those with the least peak.
_SYNC_STREAM = 1916
_PILOT_STREAM = 769
#: Symbols that are drawn for any other sequence; those with the least peak power are used.
_DRAWS = 64
#: Sequences that are kept: a coordinator hears some dozens of transmitters.
_KEPT = 64
MAX_SEQUENCE = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the burst that is a cyclic repetition of a known signal.

    Parameters
    ----------
    start : int
        First sample, from the start of the burst.
    length : int
    """

    start: int
    length: int

    @property
    def centre(self) -> float:
        """Mean time of its samples, in samples."""
        return self.start + 0.5 * (self.length - 1)


def sync_segments() -> tuple[Segment, Segment]:
    """Return the two halves of the sync part."""
    return Segment(PREFIX, HALF), Segment(PREFIX + HALF, HALF)


def pilot_segments() -> tuple[Segment, ...]:
    """Return the bodies of the pilot symbols, without their prefixes."""
    first = PREFIX + SYNC_LENGTH + PREFIX
    return tuple(Segment(first + r * SYMBOL_LENGTH, FFT_SIZE) for r in range(SYMBOLS))


@lru_cache(maxsize=1)
def carriers() -> IntArray:
    """Carriers of a pilot symbol in units of the carrier spacing, ascending, (200,)."""
    return _occupied(USED_CARRIERS)


@lru_cache(maxsize=1)
def sync_carriers() -> IntArray:
    """Carriers of a sync half in units of *twice* the carrier spacing, ascending, (100,)."""
    return _occupied(USED_CARRIERS // 2)


def _occupied(count: int) -> IntArray:
    half = np.arange(1, count // 2 + 1)
    occupied = np.concatenate([-half[::-1], half])
    occupied.setflags(write=False)
    return occupied


def sequence_of(name: str) -> int:
    """Sequence of a transmitter by its serial number or name, 1 to ``MAX_SEQUENCE``."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:4], "little") % MAX_SEQUENCE + 1


@lru_cache(maxsize=_KEPT)
def sync_symbols(sequence: int = 0) -> ComplexArray:
    """QPSK symbols of the sync half on ``sync_carriers()``, unit modulus, (100,)."""
    if sequence == 0:
        return np.asarray(_qpsk(1, USED_CARRIERS // 2, _SYNC_STREAM)[0])
    draws = _qpsk(_DRAWS, USED_CARRIERS // 2, _stream(sequence, 1))
    return _least_peak(draws, sync_carriers(), HALF)


@lru_cache(maxsize=_KEPT)
def pilot_symbols(sequence: int = 0) -> ComplexArray:
    """QPSK symbols of a pilot on ``carriers()``, unit modulus, (200,)."""
    if sequence == 0:
        return np.asarray(_qpsk(1, USED_CARRIERS, _PILOT_STREAM)[0])
    draws = _qpsk(_DRAWS, USED_CARRIERS, _stream(sequence, 2))
    return _least_peak(draws, carriers(), FFT_SIZE)


def _stream(sequence: int, part: int) -> int:
    if not 0 < sequence <= MAX_SEQUENCE:
        raise ValueError(f"pilots: sequence must lie in 0..{MAX_SEQUENCE}, got {sequence}")
    return sequence | part << 64  # a 128-bit key


def _qpsk(rows: int, count: int, stream: int) -> ComplexArray:
    # The raw output of a bit generator is fixed for ever, which that of a Generator is not, and
    # both ends of a link must agree on it.
    quarter = np.random.Philox(key=stream).random_raw(rows * count) >> 62
    symbols: ComplexArray = np.exp(0.5j * math.pi * (quarter.reshape(rows, count) + 0.5))
    symbols.setflags(write=False)
    return symbols


def _least_peak(draws: ComplexArray, occupied: IntArray, size: int) -> ComplexArray:
    peaks = [float(np.abs(_modulate(symbols, occupied, size)).max()) for symbols in draws]
    return np.asarray(draws[int(np.argmin(peaks))])


def _modulate(symbols: ComplexArray, occupied: IntArray, size: int) -> ComplexArray:
    grid = np.zeros(size, dtype=np.complex128)
    grid[occupied] = symbols
    return np.asarray(np.fft.ifft(grid) * (size / math.sqrt(len(symbols))))


@lru_cache(maxsize=_KEPT)
def sync_waveform(sequence: int = 0) -> ComplexArray:
    """Both halves without the prefix, (256,), mean power 1."""
    half = _modulate(sync_symbols(sequence), sync_carriers(), HALF)
    both = np.concatenate([half, half])
    both.setflags(write=False)
    return both


@lru_cache(maxsize=_KEPT)
def burst_waveform(sequence: int = 0) -> ComplexArray:
    """Return the whole burst, (1440,), mean power 1 within 0.1 dB (the prefixes repeat parts)."""
    sync = sync_waveform(sequence)
    body = _modulate(pilot_symbols(sequence), carriers(), FFT_SIZE)
    symbol = np.concatenate([body[-PREFIX:], body])
    burst = np.concatenate([sync[-PREFIX:], sync, *[symbol] * SYMBOLS])
    burst.setflags(write=False)
    return burst


def peak_to_average(sequence: int = 0) -> float:
    """Peak power of the burst over its mean power, linear: the back-off it needs."""
    power = np.abs(burst_waveform(sequence)) ** 2
    return float(power.max() / power.mean())
