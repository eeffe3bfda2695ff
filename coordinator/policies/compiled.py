"""The one way in which the policies' inner loops are compiled.

Compiled code is kept beside the source (or in numba's user cache where that is read-only), so
only the first call on a machine compiles. numba notices a change of the file that a cached
function stands in, not of the files it calls into: functions that call each other therefore
stand in one file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile on first call, keep on disk, release the GIL; IEEE arithmetic as written."""
    return cast("F", numba.njit(cache=True, nogil=True, error_model="numpy")(function))
