"""What travels beside a row: which experts, and with which weights, in as few bits as do no harm.

An agent hosts few experts of a layer, so an expert is an index among them: no bits where it hosts
one. Weights are relative to the largest of the row, which the coordinator applies at home to the
vector that comes back: exact, and free. What is left are the other weights of rows with several
experts, in the width of the answer but at least 8 bits: below the noise of the answer's own
entries (``benchmarks/RESULTS.md`` has the measured harm).

Counted are whole bytes of a message's header as sent, the bits of its rows with it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.integer[Any]]
Float32Array = NDArray[np.float32]

#: Bytes of a header in front of its runs: flags, sizes, residents' tag, id, layer below 128, and
#: the deadline; flags, id, and two times.
APPLY_BYTES: Final = 8
RESULT_BYTES: Final = 7
#: Bytes of a run of fewer than 128 rows: its widths, and the number of its rows.
RUN_BYTES: Final = 2
#: Lowest bits of an id that a short header has; a coordinator asks an agent one thing at a time.
ID_BITS: Final = 16
#: Bits of the header of a message with one run, in both directions.
HEADER_BITS: Final = (8 * (APPLY_BYTES + RUN_BYTES), 8 * (RESULT_BYTES + RUN_BYTES))
#: Most experts of one row that a short header has room for.
MOST_PAIRS: Final = 16

#: Largest code of a weight of 8 and 16 bits.
_LARGEST: Final = {8: 127, 16: 32_767}


def bits_for(count: int) -> int:
    """Bits that tell ``count`` things apart; 0 for one."""
    return (max(count, 1) - 1).bit_length()


def weight_bits(reply_width: int) -> int:
    """Bits of a weight in a row whose answer has entries of ``reply_width`` bits."""
    return max(8, reply_width)


def row_control_bits(*, residents: int, pairs: int, reply_width: int, mixed: bool = False) -> int:
    """Bits beside one row: its experts and their weights.

    Parameters
    ----------
    residents : int
        Experts of the layer that the agent hosts.
    pairs : int
        Experts that the row uses there.
    reply_width : int, bit
        Of an entry of the answer.
    mixed : bool
        Whether rows of the message use different numbers of experts, and this one up to ``pairs``.
    """
    counted = bits_for(pairs) if mixed else 0
    return counted + pairs * bits_for(residents) + (pairs - 1) * weight_bits(reply_width)


def run_bytes(rows: int) -> int:
    """Bytes of a run of so many rows."""
    return 1 + varint_bytes(rows)


def varint_bytes(value: int) -> int:
    """Bytes of a number in groups of 7 bits."""
    return max(1, -(-value.bit_length() // 7))


def tag_of(residents: Sequence[int]) -> int:
    """Check number of the experts that an index counts among; tells most mistakes apart."""
    return zlib.crc32(np.asarray(residents, "<i4").tobytes()) & 0xFF


def as_codes(weights: Float32Array, bits: int) -> NDArray[np.uint32]:
    """Code weights between -1 and 1, (m,); at 32 bits their float32 pattern."""
    if bits not in _LARGEST:
        return np.ascontiguousarray(weights, np.float32).view(np.uint32)
    codes = np.rint(weights * np.float32(_LARGEST[bits])).astype(np.int64)
    coded: NDArray[np.uint32] = (codes & ((1 << bits) - 1)).astype(np.uint32)
    return coded


def of_codes(codes: NDArray[np.uint32], bits: int) -> Float32Array:
    """Weights of codes, (m,)."""
    if bits not in _LARGEST:
        patterns: Float32Array = codes.astype(np.uint32).view(np.float32)
        return patterns
    signed = codes.astype(np.int64)
    signed -= (signed >> (bits - 1)) << bits
    weights: Float32Array = signed.astype(np.float32) / np.float32(_LARGEST[bits])
    return weights


def rounded(weights: Float32Array, bits: int) -> Float32Array:
    """Weights as they arrive, (m,)."""
    return of_codes(as_codes(weights, bits), bits)


class BitWriter:
    """Writes numbers of a few bits each, one after the other, lowest bits first."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.uint8]] = []

    def write(self, values: IntArray, bits: int) -> None:
        """Append numbers below 2^bits."""
        if bits and len(values):
            places = np.arange(bits, dtype=np.uint32)
            spread = (np.asarray(values, np.uint32)[:, None] >> places) & np.uint32(1)
            self._parts.append(spread.astype(np.uint8).reshape(-1))

    def done(self) -> bytes:
        """Bytes written, the last one filled up with zeros."""
        if not self._parts:
            return b""
        return np.packbits(np.concatenate(self._parts), bitorder="little").tobytes()


class BitReader:
    """Reads what `BitWriter` wrote; `TooShort` where bits are missing."""

    class TooShort(Exception):
        """Fewer bits than numbers are to be read."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = data
        self._bits = np.zeros(0, np.uint8)
        self._at = 0

    def read(self, count: int, bits: int) -> NDArray[np.uint32]:
        """Read ``count`` numbers of ``bits`` bits."""
        if not (bits and count):
            return np.zeros(count, np.uint32)
        if not self._at:
            self._bits = np.unpackbits(np.frombuffer(self._data, np.uint8), bitorder="little")
        end = self._at + count * bits
        if end > len(self._bits):
            raise self.TooShort
        spread = self._bits[self._at : end].reshape(count, bits).astype(np.uint32)
        self._at = end
        values: NDArray[np.uint32] = (spread << np.arange(bits, dtype=np.uint32)).sum(
            axis=1, dtype=np.uint32
        )
        return values

    @property
    def at_end(self) -> bool:
        """Whether no whole byte is left."""
        return -(-self._at // 8) == len(self._data)
