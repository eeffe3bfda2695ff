"""Limits of the process, lowered for a while."""

from __future__ import annotations

import contextlib
import os
import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def descriptor_limit(limit: int, *, pid: int = 0) -> Iterator[None]:
    """Lower the soft limit of descriptors of a process, 0 for this one."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def no_free_descriptor() -> Iterator[None]:
    """Let this process open no file; those that are open stay so."""
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    with descriptor_limit(lowest_free):
        yield
