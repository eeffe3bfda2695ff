"""Memory of the agent's process: how much it is, and how the C library handles what is freed.

Loading experts and running them want the opposite of each other. Loading parses files as large as
the weights, and what that freed should go back to the system: 35 MB against 20 for an expert of
19 MB. A run takes and frees megabytes each time, and should get the same pages again: a thread
that is not the first gets them from an arena that glibc trims after every run, which cost 1,250
page faults and 7 % of the time of a run of 256 rows (both measured on x86-64, glibc 2.36).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path
from typing import Final

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_MIB: Final = 1 << 20


def resident_memory() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def release_free_memory() -> None:
    """Give memory that was freed back to the system, where the C library can (glibc)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def keep_freed_memory() -> None:
    """Let the next run have the pages of the last, in whatever thread it is (glibc).

    One arena for all threads, which take turns here; what a run needs comes from it (up to 32 MiB
    a piece, more glibc does not allow), and 64 MiB of it may stay free.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_ARENA_MAX, 1)
        libc.mallopt(_MMAP_THRESHOLD, 32 * _MIB)
        libc.mallopt(_TRIM_THRESHOLD, 64 * _MIB)
