"""The time of a run: virtual where links are simulated, real where radios sound them."""

from __future__ import annotations

import math
import time
from typing import Protocol


class Clock(Protocol):
    """Clock of a run, from 0 at its start."""

    @property
    def now_s(self) -> float:
        """Seconds since the start of the run."""
        ...

    def advance(self, duration_s: float) -> None:
        """Account for the duration of a layer's transmissions and computations."""
        ...


class VirtualClock:
    """Clock that only `advance` moves: a run is the same on a fast and on a slow machine.

    Parameters
    ----------
    realtime : bool
        Also sleep for the advanced time.
    """

    def __init__(self, *, realtime: bool = False) -> None:
        self._realtime = realtime
        self._now_s = 0.0

    @property
    def now_s(self) -> float:
        """Sum of all advances."""
        return self._now_s

    def advance(self, duration_s: float) -> None:
        """Move forward."""
        self._now_s += duration_s
        if self._realtime:
            time.sleep(duration_s)


class RealClock:
    """Clock of real time, for channels that radios measure: they change while the run waits, too.

    Parameters
    ----------
    realtime : bool
        Sleep for the modelled airtime of a layer, as if the hidden states went over the radio. If
        false, a run takes as long as network and computation do, and its airtime is only booked.
    """

    def __init__(self, *, realtime: bool = False) -> None:
        self._realtime = realtime
        self._began_s = time.monotonic()

    @property
    def now_s(self) -> float:
        """Seconds since the clock was made."""
        return time.monotonic() - self._began_s

    def advance(self, duration_s: float) -> None:
        """Sleep for the duration if ``realtime`` was asked for."""
        if not (duration_s >= 0.0 and math.isfinite(duration_s)):
            raise ValueError(f"clock: duration must be finite and not negative, got {duration_s}")
        if self._realtime:
            time.sleep(duration_s)
