"""Counters of an agent, and the memory of its process and of its board."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from siftmoe.agent.compute.memory import resident_memory

if TYPE_CHECKING:
    from collections.abc import Mapping

_KIB: Final = 1_024
_MEMINFO: Final = Path("/proc/meminfo")
#: The kernel's names of the board's memory -> names in a stats reply.
_MEMORY: Final = {
    "MemTotal:": "board_memory_bytes",
    "MemAvailable:": "board_memory_available_bytes",
}


class Telemetry:
    """Counters since the start of the agent.

    Each name is counted by one role of the server, listening or computing, which one thread holds
    at a time: no increment is lost and none needs a lock.

    Parameters
    ----------
    started_s : float, s
        Start of the agent, on the clock of :meth:`figures`.
    """

    def __init__(self, *, started_s: float) -> None:
        self._started_s = started_s
        self._counts: defaultdict[str, float] = defaultdict(float)

    def count(self, name: str, by: float = 1) -> None:
        """Add to a counter."""
        self._counts[name] += by

    def figures(self, *, now_s: float, waiting: Mapping[str, float]) -> dict[str, float]:
        """Return counters, uptime and processor time (s), queue figures and memory (bytes).

        Memory that cannot be read is left out.

        Parameters
        ----------
        now_s : float, s
        waiting : mapping
            Figures of the backlog, `Backlog.figures`.
        """
        figures = {
            **self._counts.copy(),
            **waiting,
            "uptime_s": now_s - self._started_s,
            "cpu_s": time.process_time(),
            **board_memory(),
        }
        with contextlib.suppress(OSError):  # no descriptor is free
            figures["memory_bytes"] = float(resident_memory())
        return figures


def board_memory(path: Path = _MEMINFO) -> dict[str, float]:
    """Return the board's total and available memory, bytes; on a Jetson the GPU shares it."""
    found: dict[str, float] = {}
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        name, _, value = line.partition(" ")
        if name in _MEMORY:
            found[_MEMORY[name]] = float(value.split()[0]) * _KIB
    return found
