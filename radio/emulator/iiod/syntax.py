"""Syntax of the IIOD protocol: numbers and masks in lines, and limits on their length."""

from __future__ import annotations

import errno
import re

from siftmoe.radio.emulator.device.tree import IioError

#: Reply to ``VERSION``; libiio reads a tag of 7 characters.
VERSION = b"0.24.v0.24  \n"
MAX_LINE = 1024
#: Longest value of an attribute; the largest is a FIR filter's file, 2 kB.
MAX_VALUE = 1 << 16
#: Mask of the channels of a buffer.
MASK = re.compile(r"[0-9a-fA-F]{8}")
_NUMBER = re.compile(r"\d{1,18}(?!\d)")


def reply_line(value: int) -> bytes:
    """Format a number as a reply line."""
    return b"%d\n" % value


def require(condition: bool) -> None:
    """Raise EINVAL unless a condition on the words of a command holds."""
    if not condition:
        raise IioError(errno.EINVAL)


def parse_count(word: str) -> int:
    """Parse a number as the real server does: a word that is no number counts as 0."""
    number = _NUMBER.match(word)
    return int(number.group()) if number else 0
