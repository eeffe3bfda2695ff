"""Unpacks integers of 2 to 8 bits from words of 32 bits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

WORD_BITS = 32


def period(bits: int) -> tuple[int, int]:
    """Words and integers after which a gapless stream of integers meets a word's edge again."""
    words = bits // math.gcd(bits, WORD_BITS)
    return words, words * WORD_BITS // bits


def unpack_rows(words: Tensor, bits: int, *, gapless: bool = True) -> Tensor:
    """Unpack integers along the first axis, lowest bits first.

    Parameters
    ----------
    words : (n, m) int32
    bits : int
        Of an integer.
    gapless : bool
        Whether integers cross the edges of words; otherwise a word holds ``32 // bits`` of them.

    Returns
    -------
    (n * 32 // bits, m) uint8, without gaps
    """
    span, count = period(bits) if gapless else (1, WORD_BITS // bits)
    array = words.contiguous().numpy().view(np.uint32)
    array = array.reshape(-1, span, array.shape[1])  # [n / span, span, m]
    out = np.empty((len(array), count, array.shape[2]), dtype=np.uint8)
    mask = np.uint32((1 << bits) - 1)
    for index in range(count):
        word, shift = divmod(index * bits, WORD_BITS)
        value = array[:, word] >> np.uint32(shift)
        if shift + bits > WORD_BITS:
            value |= array[:, word + 1] << np.uint32(WORD_BITS - shift)
        out[:, index] = value & mask
    return torch.from_numpy(out.reshape(-1, out.shape[2]))


def unpack_columns(words: Tensor, bits: int, *, gapless: bool = True) -> Tensor:
    """Unpack integers along the second axis: (m, n) int32 to (m, n * 32 // bits) uint8."""
    return unpack_rows(words.T, bits, gapless=gapless).T
