"""Compiled loops of the LDPC code: encoder, parity check, layered min-sum decoder.

All loops run over the Z bits of one circulant without a branch, on 8- and 16-bit integers, so that
they become vector instructions. `plain` has the same arithmetic in numpy, and explains it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from siftmoe.radio.compiled import compiled

#: Limit of a bit's total; with a message's limit of 127 no sum leaves 16 bits.
TOTAL_LIMIT = 8191


@compiled
def _add_rotated(target: Any, source: Any, shift: Any) -> None:
    """``target[z] ^= source[(z + shift) % Z]``."""
    size = len(source)
    first, rest = target[: size - shift], target[size - shift :]
    head, tail = source[:shift], source[shift:]
    for z in range(size - shift):
        first[z] ^= tail[z]
    for z in range(shift):
        rest[z] ^= head[z]


@compiled
def encode(
    bits: Any, starts: Any, columns: Any, shifts: Any, order: Any, corner: Any, size: Any, rows: Any
) -> None:
    """Fill the parity bits of ``rows`` rows (at least 4) behind the information, in place."""
    information = order[0, 1] - 1
    sums = np.zeros((4, size), np.uint8)
    for row in range(4):
        for edge in range(starts[row], starts[row + 1]):
            column = columns[edge]
            if column < information:
                _add_rotated(sums[row], bits[column * size : (column + 1) * size], shifts[edge])
    total = sums[0] ^ sums[1] ^ sums[2] ^ sums[3]
    first = bits[information * size : (information + 1) * size]
    first[corner:] = total[: size - corner]
    first[:corner] = total[size - corner :]
    for step in range(3):
        row, solved = order[step, 0], order[step, 1]
        for edge in range(starts[row], starts[row + 1]):
            column = columns[edge]
            if column >= information and column != solved:
                _add_rotated(sums[row], bits[column * size : (column + 1) * size], shifts[edge])
        bits[solved * size : (solved + 1) * size] = sums[row]
    for row in range(4, rows):
        target = bits[(information + row) * size : (information + row + 1) * size]
        target[:] = 0
        for edge in range(starts[row], starts[row + 1] - 1):  # the last one is the parity itself
            column = columns[edge]
            _add_rotated(target, bits[column * size : (column + 1) * size], shifts[edge])


@compiled
def satisfied(totals: Any, starts: Any, columns: Any, shifts: Any, rows: Any) -> Any:
    """Tell whether the signs of the totals fulfil every check of the first ``rows`` rows."""
    size = totals.shape[1] // 2
    signs = np.empty(size, np.int16)
    for row in range(rows):
        signs[:] = 0
        for edge in range(starts[row], starts[row + 1]):
            _add(signs, totals[columns[edge]][shifts[edge] : shifts[edge] + size])
        wrong = np.int16(0)
        for z in range(size):
            wrong |= signs[z]
        if wrong < 0:
            return False
    return True


@compiled
def _add(target: Any, source: Any) -> None:
    for z in range(len(target)):
        target[z] ^= source[z]


@compiled
def _gather(total: Any, message: Any, value: Any, low: Any, second: Any, sign: Any) -> None:
    """Bit to check: total less message; the check's two least magnitudes and its sign."""
    for z in range(len(value)):
        v = np.int16(total[z] - message[z])
        value[z] = v
        n = np.int16(-v)
        a = v if v > n else n
        m1, m2 = low[z], second[z]
        more = a if a > m1 else m1
        second[z] = more if more < m2 else m2
        low[z] = a if a < m1 else m1
        sign[z] = np.int16(sign[z] ^ v)


@compiled
def _scatter(
    total: Any, message: Any, value: Any, low: Any, small: Any, large: Any, sign: Any
) -> None:
    """Check to bit: the least magnitude of the other bits with the sign that they ask for."""
    limit, floor = np.int16(TOTAL_LIMIT), np.int16(-TOTAL_LIMIT)
    for z in range(len(value)):
        v = value[z]
        n = np.int16(-v)
        a = v if v > n else n
        few, more = small[z], large[z]  # a load under a condition would stop vectorisation
        m = more if a == low[z] else few
        g = np.int16(-m)
        m = g if np.int16(sign[z] ^ v) < 0 else m
        message[z] = np.int8(m)
        t = np.int16(v + m)
        t = t if t < limit else limit
        total[z] = t if t > floor else floor


@compiled
def _scale(least: Any, scaled: Any, weight: Any) -> None:
    """Normalise a magnitude by ``weight / 16``, and limit it to 127."""
    top, safe = np.int16(127), np.int16(2047)
    for z in range(len(least)):
        v = least[z]
        v = np.int16((v if v < safe else safe) * weight)
        v = np.int16(v >> np.int16(4))
        scaled[z] = v if v < top else top


@compiled
def _copy(target: Any, source: Any) -> None:
    for z in range(len(target)):
        target[z] = source[z]


@compiled
def decode(
    totals: Any,
    messages: Any,
    starts: Any,
    columns: Any,
    shifts: Any,
    weights: Any,
    rows: Any,
    iterations: Any,
) -> Any:
    """Decode in place; return the iterations used, negative if a check is still violated.

    A column's totals stand twice in a row of ``totals``, so that every rotation is one stretch.
    """
    size = totals.shape[1] // 2
    values = np.empty((24, size), np.int16)
    low, second, sign = np.empty(size, np.int16), np.empty(size, np.int16), np.empty(size, np.int16)
    small, large = np.empty(size, np.int16), np.empty(size, np.int16)
    messages[:] = 0
    for iteration in range(iterations):
        for row in range(rows):
            begin, end = starts[row], starts[row + 1]
            low[:] = 32767
            second[:] = 32767
            sign[:] = 0
            for edge in range(begin, end):
                total = totals[columns[edge]][shifts[edge] : shifts[edge] + size]
                _gather(total, messages[edge], values[edge - begin], low, second, sign)
            _scale(low, small, weights[row])
            _scale(second, large, weights[row])
            for edge in range(begin, end):
                both, shift = totals[columns[edge]], shifts[edge]
                total = both[shift : shift + size]
                _scatter(total, messages[edge], values[edge - begin], low, small, large, sign)
                _copy(both[:shift], both[size : size + shift])
                _copy(both[size + shift :], both[shift:size])
        if satisfied(totals, starts, columns, shifts, rows):
            return iteration + 1
    return -iterations


@compiled
def add_soft(totals: Any, table: Any, soft: Any, limit: Any) -> None:
    """Add soft bits to the totals at the positions of a table, within the limit."""
    for i in range(len(table)):
        total = np.int32(totals[table[i]]) + np.int32(soft[i])
        totals[table[i]] = np.int16(min(max(total, -limit), limit))
