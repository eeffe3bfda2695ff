"""What an agent counts and senses of itself."""

from __future__ import annotations

import logging
from collections import defaultdict
from pathlib import Path
from typing import Final

from siftmoe.agent.memory import resident_memory

logger = logging.getLogger(__name__)

_MILLI: Final = 1e-3
_THERMAL: Final = Path("/sys/class/thermal")


class Telemetry:
    """Counters since the start of the agent.

    Each name is counted by one role of the server, listening or computing, which one thread has at
    a time: no increment is lost and none needs a lock.

    Parameters
    ----------
    started_s : float, s
        When the agent started, on the clock that :meth:`figures` is asked with.
    """

    def __init__(self, *, started_s: float) -> None:
        self._started_s = started_s
        self._counts: defaultdict[str, float] = defaultdict(float)

    def count(self, name: str, by: float = 1) -> None:
        """Add to a counter."""
        self._counts[name] += by

    def figures(self, *, now_s: float, queued: int) -> dict[str, float]:
        """Return all counters with uptime (s), queue length and memory (bytes)."""
        return {
            **self._counts.copy(),
            "uptime_s": now_s - self._started_s,
            "queued": float(queued),
            "memory_bytes": float(resident_memory()),
        }


def temperatures(root: Path = _THERMAL) -> dict[str, float]:
    """Return the temperature (°C) of every thermal zone that can be read, by its type.

    A zone of a powered-down unit answers with an error, and a virtual machine has no zones: what
    cannot be read is left out.
    """
    found: dict[str, float] = {}
    for zone in sorted(root.glob("thermal_zone*")):
        try:
            kind = (zone / "type").read_text().strip()
            found[kind] = int((zone / "temp").read_text()) * _MILLI
        except (OSError, ValueError) as error:
            logger.debug("thermal zone %s cannot be read: %s", zone.name, error)
    return found
