"""The time of a run: virtual where links are simulated, real where radios sound them."""

from __future__ import annotations

import math
import time
from typing import Protocol


class Clock(Protocol):
    """What tells a coordinator the time, from 0 at the start of a run."""

    @property
    def now_s(self) -> float:
        """Seconds since the start of the run."""
        ...

    def advance(self, duration_s: float) -> None:
        """Take note that transmissions and computations of a layer take so long."""
        ...


class VirtualClock:
    """Moves by `advance` alone: a run is the same on a fast and on a slow machine.

    Parameters
    ----------
    realtime : bool
        Also wait what is advanced.
    """

    def __init__(self, *, realtime: bool = False) -> None:
        self._realtime = realtime
        self._now_s = 0.0

    @property
    def now_s(self) -> float:
        """Sum of what was advanced."""
        return self._now_s

    def advance(self, duration_s: float) -> None:
        """Move forward."""
        self._now_s += duration_s
        if self._realtime:
            time.sleep(duration_s)


class RealClock:
    """Real time: channels that radios measure change whether the run goes on or not.

    Parameters
    ----------
    realtime : bool
        Wait the modelled airtime of a layer, as if the hidden states went over the radio. Without,
        a run takes as long as network and computation do, and its airtime is only booked.
    """

    def __init__(self, *, realtime: bool = False) -> None:
        self._realtime = realtime
        self._began_s = time.monotonic()

    @property
    def now_s(self) -> float:
        """Seconds since the clock was made."""
        return time.monotonic() - self._began_s

    def advance(self, duration_s: float) -> None:
        """Wait, if transmissions are to be waited for."""
        if not (duration_s >= 0.0 and math.isfinite(duration_s)):
            raise ValueError(f"clock: duration must be finite and not negative, got {duration_s}")
        if self._realtime:
            time.sleep(duration_s)
