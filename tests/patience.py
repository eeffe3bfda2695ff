"""Waits of tests that scale with the load of the machine, instead of being constant."""

from __future__ import annotations

import os

#: No wait is longer than this: a test that hangs is to end before pytest's own time limit.
MOST_S = 240.0


def scaled_s(quiet_s: float) -> float:
    """Return how long to wait now for what takes less than ``quiet_s`` on a quiet machine."""
    load = os.getloadavg()[0] / len(os.sched_getaffinity(0))
    return max(quiet_s, min(MOST_S, quiet_s * load))
