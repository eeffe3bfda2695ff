"""Time limits for another process that do not run while it waits for a processor.

On a busy machine a process may get a tenth of the time that passes. Linux counts how long its main
thread was ready to run and had no processor (``/proc/PID/schedstat``, second field, ns); a limit is
extended by it. A process that hangs is not ready, so it gets the plain limit.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_NS: Final = 1e-9
#: A limit is extended to this multiple of itself at most.
MOST_TIMES: Final = 20.0


class Patience:
    """A time limit for a process, from now on.

    Parameters
    ----------
    pid : int
    limit_s : float, s
    delay : callable
        Returns the time that a process has waited for a processor, s.
    clock : callable
        Returns monotonic seconds.
    """

    def __init__(
        self,
        pid: int,
        limit_s: float,
        *,
        delay: Callable[[int], float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pid, self._limit_s = pid, limit_s
        self._delay, self._clock = delay or run_delay_s, clock
        self._began_s, self._delay_s = clock(), self._delay(pid)

    def left_s(self) -> float:
        """Return the time left, s; 0 if it is over."""
        delayed_s = max(0.0, self._delay(self._pid) - self._delay_s)
        limit_s = min(self._limit_s + delayed_s, MOST_TIMES * self._limit_s)
        return max(0.0, limit_s - (self._clock() - self._began_s))


def run_delay_s(pid: int) -> float:
    """Return how long a process's main thread has waited for a processor, s; 0 if unknown."""
    try:
        fields = Path(f"/proc/{pid}/schedstat").read_text().split()
        return int(fields[1]) * _NS
    except (OSError, IndexError, ValueError):
        return 0.0
