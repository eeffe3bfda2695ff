"""Payload to blocks and back: segmentation, scrambling, a CRC-32 for every block.

All blocks have the same length; the last one is filled with zeros. A keystream is added to the
payload, so that equal bytes do not make peaks; it hides nothing. A block is accepted only if its
CRC-32 holds. With the parity checks of the code before it, a wrong block passes with less than
2^-32 of probability.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.modem.coding.code import block_code
from siftmoe.radio.modem.coding.matching import largest_payload

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.modem.coding.code import BlockCode

    Bits = NDArray[np.uint8]
    Bytes = NDArray[np.uint8]

CRC_BYTES = 4
#: Longest payload of one burst.
MAX_PAYLOAD = 65536
_KEY = 0x51F7


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentation:
    """Division of a payload into blocks.

    Parameters
    ----------
    length : int, byte
        Of the payload.
    count : int
        Blocks.
    block_bytes : int
        Payload bytes of every block; the last one may be filled up.
    code : BlockCode
    """

    length: int
    count: int
    block_bytes: int
    code: BlockCode

    def bits_of(self, payload: bytes, block: int) -> Bits:
        """Bits of a block with its checksum, (code.payload,)."""
        begin = block * self.block_bytes
        part = np.zeros(self.block_bytes, np.uint8)
        data = np.frombuffer(payload[begin : begin + self.block_bytes], np.uint8)
        part[: len(data)] = data
        scrambled = (part ^ _keystream(self.block_bytes)).tobytes()
        checksum = zlib.crc32(scrambled).to_bytes(CRC_BYTES, "big")
        return np.unpackbits(np.frombuffer(scrambled + checksum, np.uint8))

    def bytes_of(self, bits: Bits) -> bytes | None:
        """Payload bytes of a decoded block; None if its checksum does not hold."""
        block = np.packbits(bits).tobytes()
        body, checksum = block[:-CRC_BYTES], block[-CRC_BYTES:]
        if zlib.crc32(body) != int.from_bytes(checksum, "big"):
            return None
        return (np.frombuffer(body, np.uint8) ^ _keystream(self.block_bytes)).tobytes()

    def join(self, blocks: list[bytes]) -> bytes:
        """Join the bytes of all blocks to the payload."""
        return b"".join(blocks)[: self.length]


@lru_cache(maxsize=256)
def segment(length: int, rate: float) -> Segmentation:
    """Divide a payload into the fewest blocks of equal length.

    Parameters
    ----------
    length : int, byte
        1 to ``MAX_PAYLOAD``.
    rate : float
        Code rate of the first transmission.

    Raises
    ------
    ValueError
        If the length is out of range.
    """
    if not 1 <= length <= MAX_PAYLOAD:
        raise ValueError(f"modem: a payload has 1 to {MAX_PAYLOAD} bytes, got {length}")
    room = largest_payload(rate) // 8 - CRC_BYTES
    count = -(-length // room)
    block_bytes = -(-length // count)
    code = block_code(8 * (block_bytes + CRC_BYTES), rate)
    return Segmentation(length=length, count=count, block_bytes=block_bytes, code=code)


@lru_cache(maxsize=64)
def _keystream(length: int) -> Bytes:
    # The raw output of a bit generator is fixed for ever; both ends must agree on it.
    words = np.random.Philox(key=_KEY).random_raw(-(-length // 8)).astype("<u8")
    return np.asarray(words.view(np.uint8)[:length])
