"""The header of a burst: 80 bits of content and a CRC-16, sent as QPSK at rate 1/8.

=========  ====  =========================================================
field      bits  meaning
=========  ====  =========================================================
version    3     of the air interface: 1
kind       3     free for the link
scheme     5     number in `schemes.SCHEMES`
version    2     redundancy version
symbols    2     numerology of the payload
length     17    bytes of the whole payload; 0: the burst is only a header
to, from   8, 8  addresses, free for the link
sequence   16    number of the payload: repetitions have the same
blocks     16    bit i: the blocks i, i + 16, ... are in this burst
=========  ====  =========================================================

A header that says something impossible is refused as a whole, before anything of it is used.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.errors import HeaderInvalid
from siftmoe.radio.modem.coding.blocks import MAX_PAYLOAD
from siftmoe.radio.modem.coding.code import block_code
from siftmoe.radio.modem.framing.carriers import NUMEROLOGIES, SHORT
from siftmoe.radio.modem.symbols.constellation import modulate
from siftmoe.radio.modem.symbols.schemes import SCHEMES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.modem.coding.code import BlockCode

    Bits = NDArray[np.uint8]
    ComplexArray = NDArray[np.complex64]

VERSION = 1
ALL_BLOCKS = 0xFFFF
#: Width of every field, in the order of sending.
_WIDTHS = (
    ("version", 3),
    ("kind", 3),
    ("scheme", 5),
    ("redundancy", 2),
    ("numerology", 2),
    ("length", 17),
    ("destination", 8),
    ("source", 8),
    ("sequence", 16),
    ("blocks", 16),
)
CONTENT_BITS = sum(width for _, width in _WIDTHS)
_CRC_BITS = 16
_CRC_START = 0x1D0F
#: OFDM symbols of a header.
HEADER_SYMBOLS = 2
_ORDER = 2
SENT_BITS = HEADER_SYMBOLS * SHORT.data_cells * _ORDER


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Content of a header; see the module.

    Parameters
    ----------
    length : int, byte
        0 to 65,536.
    scheme, redundancy, numerology : int
    destination, source, sequence, kind : int
    blocks : int
        Bit mask.

    Raises
    ------
    ValueError
        If a field does not fit, or a payload would have no block in this burst.
    """

    length: int
    scheme: int = 0
    redundancy: int = 0
    numerology: int = 0
    destination: int = 0
    source: int = 0
    sequence: int = 0
    kind: int = 0
    blocks: int = ALL_BLOCKS

    def __post_init__(self) -> None:
        widths = dict(_WIDTHS)
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < 1 << widths[field.name]:
                raise ValueError(f"header: {field.name} {value} does not fit its bits")
        if self.length > MAX_PAYLOAD:
            raise ValueError(f"header: length {self.length} exceeds {MAX_PAYLOAD} bytes")
        if self.scheme >= len(SCHEMES):
            raise ValueError(f"header: there is no scheme {self.scheme}")
        if self.numerology >= len(NUMEROLOGIES):
            raise ValueError(f"header: there is no numerology {self.numerology}")
        if self.length and not self.blocks:
            raise ValueError("header: a payload without blocks")

    def bits(self) -> Bits:
        """Content and CRC-16, (96,) uint8."""
        value = 0
        for name, width in _WIDTHS:
            value = value << width | (VERSION if name == "version" else getattr(self, name))
        content = value.to_bytes(CONTENT_BITS // 8, "big")
        checksum = binascii.crc_hqx(content, _CRC_START).to_bytes(_CRC_BITS // 8, "big")
        return np.unpackbits(np.frombuffer(content + checksum, np.uint8))


def parse(bits: Bits) -> Header:
    """Read a header.

    Parameters
    ----------
    bits : (96,) uint8

    Raises
    ------
    HeaderInvalid
        If the checksum does not hold, or a field has a value that is not allowed.
    """
    packed = np.packbits(bits).tobytes()
    content, checksum = packed[:-2], int.from_bytes(packed[-2:], "big")
    if binascii.crc_hqx(content, _CRC_START) != checksum:
        raise HeaderInvalid("header: the checksum does not hold")
    value = int.from_bytes(content, "big")
    values = {}
    for name, width in reversed(_WIDTHS):
        values[name] = value & (1 << width) - 1
        value >>= width
    version = values.pop("version")
    if version != VERSION:
        raise HeaderInvalid(f"header: version {version} of the air interface, this is {VERSION}")
    try:
        return Header(**values)
    except ValueError as error:
        raise HeaderInvalid(f"refused: {error}") from error


@lru_cache(maxsize=1)
def header_code() -> BlockCode:
    """Return the code of headers: base graph 2, rate 1/8."""
    return block_code(CONTENT_BITS + _CRC_BITS, 0.125)


def header_cells(header: Header) -> ComplexArray:
    """Symbols of a header, (2, 192) complex64."""
    code = header_code()
    word = code.encode(header.bits())
    bits = code.select(word, sent=SENT_BITS, version=0, bits_per_symbol=_ORDER)
    return modulate(bits, _ORDER).reshape(HEADER_SYMBOLS, SHORT.data_cells)
