"""Expected duration of computations, learnt from earlier ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siftmoe.agent.service.requests import Job

#: Weight of a new measurement in the moving average.
_NEW: Final = 0.25


class Pace:
    """Moving average of the duration of computations, by size in powers of two.

    The size of a computation is its number of (row, expert) pairs; all experts of an agent have the
    same size.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def expected_s(self, jobs: Sequence[Job]) -> float:
        """Return the expected duration of jobs, s; infinity for a size not computed so far."""
        return self._seconds.get(_size(jobs), math.inf)

    def learn(self, jobs: Sequence[Job], seconds: float) -> None:
        """Add a measured duration, s."""
        size = _size(jobs)
        known = self._seconds.get(size, seconds)
        self._seconds[size] = known + _NEW * (seconds - known)


def _size(jobs: Sequence[Job]) -> int:
    return sum(len(job.request.pairs) for job in jobs).bit_length()
