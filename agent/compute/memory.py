"""Memory of the agent's process: its size, and what glibc does with freed memory.

Loading and running experts need opposite settings. Loading parses files as large as the weights,
and the freed memory should go back to the system: an expert of 19 MB takes 20 MB instead of 35. A
run allocates and frees megabytes each time and should get the same pages again: all threads but
the first allocate from an arena that glibc trims after every run, which cost 1,250 page faults and
7 % of the time of a run of 256 rows (both measured on x86-64, glibc 2.36).
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
    """Return the resident set size of this process, bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def release_free_memory() -> None:
    """Return freed memory to the system, where the C library can (glibc)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def keep_freed_memory() -> None:
    """Keep freed pages for the next run, whichever thread makes it (glibc).

    All threads share one arena; they take turns here. Blocks up to 32 MiB, the most that glibc
    allows, come from it, and 64 MiB of it may stay free.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_ARENA_MAX, 1)
        libc.mallopt(_MMAP_THRESHOLD, 32 * _MIB)
        libc.mallopt(_TRIM_THRESHOLD, 64 * _MIB)
