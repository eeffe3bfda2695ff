"""Compiles inner loops of the radio package with numba and caches the result on disk.

Compiled code is kept beside the source (or in numba's user cache where that is read-only), so
only the first call on a machine compiles. numba checks only the file of a cached function for
changes: functions that call each other stand in one file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

try:
    import numba
except ModuleNotFoundError as error:  # an optional extra on boards
    raise ModuleNotFoundError(
        "the modem needs numba; install it with pip install 'siftmoe[fast]'", name="numba"
    ) from error

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile on the first call, cache on disk, release the GIL; IEEE arithmetic as written."""
    return cast("F", numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def compiled_fast(function: F) -> F:
    """Like ``compiled``, but sums may be reordered: for loops whose last bits do not matter."""
    options = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": True}
    return cast("F", numba.njit(**options)(function))
