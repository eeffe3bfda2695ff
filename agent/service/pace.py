"""How long computations take, learnt from those that were made."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siftmoe.agent.service.requests import Job

#: Share of a new measurement in the average.
_NEW: Final = 0.25


class Pace:
    """Average time of computations by their size, in steps of two.

    The size of a computation is its number of (row, expert) pairs; experts of an agent are alike.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def expected_s(self, jobs: Sequence[Job]) -> float:
        """Return how long jobs will take, s; infinity for a size that was never computed."""
        return self._seconds.get(_size(jobs), math.inf)

    def learn(self, jobs: Sequence[Job], seconds: float) -> None:
        """Take account of how long jobs took."""
        size = _size(jobs)
        known = self._seconds.get(size, seconds)
        self._seconds[size] = known + _NEW * (seconds - known)


def _size(jobs: Sequence[Job]) -> int:
    return sum(len(job.request.pairs) for job in jobs).bit_length()
