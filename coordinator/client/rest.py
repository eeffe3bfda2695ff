"""Which agents rest, and when each is asked again whether it serves. Knows no socket.

An agent that is connected and gave no result is not asked for another one in the next layer: the
next would wait for it as long. One that missed a deadline owes an answer and is asked again when
that has come, late as it is; one that refused, after a pause that doubles each time it happens. In
both cases it is asked who it is before it is given work, again and again until it says so.
"""

from __future__ import annotations

from typing import Final

#: First pause of an agent that refused: its queue has emptied, or the process that is stopping is
#: gone.
REST_S: Final = 1.0
#: Longest pause. An answer that is owed may be lost, so nobody is waited for longer.
LONGEST_S: Final = 60.0


class Rests:
    """Agents that rest."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}  # when it is asked again
        self._pause: dict[int, float] = {}  # its last one
        self._owed: dict[int, int] = {}  # id of a request -> helper

    def begin(self, index: int, *, now_s: float, owes: int | None = None) -> None:
        """Let an agent rest; ``owes`` is the request that it has not answered yet."""
        if owes is not None:
            self._owed[owes] = index
            self._until[index] = now_s + LONGEST_S
            return
        pause = min(2.0 * self._pause.get(index, 0.5 * REST_S), LONGEST_S)
        self._pause[index] = pause
        self._until[index] = now_s + pause

    def answered(self, request_id: int, *, now_s: float) -> None:
        """Take note of an answer that nobody waits for any more."""
        index = self._owed.pop(request_id, None)
        if index is not None and index in self._until:
            self._until[index] = now_s

    def served(self, index: int) -> None:
        """Take note of a result in time: the next pause is a short one again."""
        self._pause.pop(index, None)

    def end(self, index: int) -> None:
        """Forget what an agent owes: its connection is another one now."""
        self._until.pop(index, None)
        self._owed = {owed: helper for owed, helper in self._owed.items() if helper != index}

    def due(self, *, now_s: float) -> list[int]:
        """Agents to ask now; each is named once."""
        ready = [index for index, when_s in self._until.items() if when_s <= now_s]
        for index in ready:
            self.end(index)
        return ready

    def patience_s(self, timeout_s: float, *, now_s: float) -> float:
        """Shorten a wait so that it ends when there is something to do here."""
        first_s = min(self._until.values(), default=None)
        return timeout_s if first_s is None else min(timeout_s, max(0.0, first_s - now_s))
