"""Compile a numeric kernel once and keep the machine code on disk.

Numba's decorator has no types of its own; this one keeps the signature of what it compiles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from numba import njit

if TYPE_CHECKING:
    from collections.abc import Callable

    Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(kernel: Kernel) -> Kernel:
    """Compile ``kernel`` at its first call; later processes load it from the cache."""
    return cast("Kernel", njit(cache=True)(kernel))
