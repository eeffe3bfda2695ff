"""Compiles the policies' inner loops with numba and caches the result on disk.

Compiled code is kept beside the source (or in numba's user cache where that is read-only), so
only the first call on a machine compiles. numba checks only the file of a
cached function for changes. Functions that call each other therefore stand in one file, or name the
modules whose code they contain: ``@compiled_over(module)``.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba
import numpy as np

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import DTypeLike, NDArray

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile on the first call, cache on disk, release the GIL; IEEE arithmetic as written."""
    return cast("F", numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def compiled_over(*modules: ModuleType) -> Callable[[F], F]:
    """Compile a function that contains compiled functions of other modules.

    A checksum of their sources becomes part of the cached name, so that a change in one of them
    compiles the function again.
    """
    sources = b"".join(Path(str(module.__file__)).read_bytes() for module in modules)
    suffix = f"_{zlib.crc32(sources):08x}"

    def decorate(function: F) -> F:
        function.__qualname__ += suffix
        return compiled(function)

    return decorate


def plain(array: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Return the array as compiled code expects it: of this type, contiguous and writeable.

    Another layout would be accepted, but compiled for again in the middle of a run.
    """
    return np.require(array, dtype, ["C", "W", "A"])
