"""Descriptors of the process: a high limit, and a reserve that connections may not use.

ZeroMQ accepts connections until no descriptor is free; then its thread spins, and the agent can
open no file: not its sensors, not its radio.
"""

from __future__ import annotations

import resource
from typing import Final

#: Descriptors that the process asks for; each connection needs one, and some 30 KB of memory.
WANTED: Final = 4_096
#: Descriptors that are kept for the agent's own files.
RESERVED: Final = 64


def raise_limit() -> int:
    """Raise the process's limit to `WANTED`, as far as the system allows; return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def is_reserved(descriptor: int) -> bool:
    """Whether a new descriptor is from the reserve; the lowest free number is given out first."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft != resource.RLIM_INFINITY and descriptor >= max(soft - RESERVED, soft // 2)
