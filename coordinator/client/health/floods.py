"""Finds agents that send messages nobody asked for. Uses no socket."""

from __future__ import annotations

from collections import Counter
from typing import Final

#: Unasked messages since an agent's last expected one that are a flood. An honest agent sends one
#: per request that was given up, and few are outstanding.
MOST_UNASKED: Final = 4_096
#: Why its connection is closed, for a while.
FLOODS: Final = f"it sent {MOST_UNASKED} messages that nobody asked for"


class Floods:
    """Counts unasked messages by agent.

    The connection's queue has no limit (`siftmoe.coordinator.client.sockets.open_router`), and
    receiving a flood takes time from all others.
    """

    def __init__(self) -> None:
        self._unasked: Counter[int] = Counter()

    def unasked(self, index: int) -> bool:
        """Count an unasked message; True if it makes a flood, whose count then begins anew."""
        self._unasked[index] += 1
        if self._unasked[index] < MOST_UNASKED:
            return False
        del self._unasked[index]
        return True

    def asked(self, index: int) -> None:
        """Record an expected message."""
        self._unasked.pop(index, None)
