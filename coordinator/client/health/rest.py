"""Back-off of agents that gave no result: when each is sent a hello again. Uses no socket.

A connected agent that gave no result is not used in the next layer, which would wait for it just as
long. One that missed a deadline is sent a hello when its late reply has arrived; one that refused,
after a pause that doubles with every refusal. In both cases hellos are repeated until it answers,
and only then it is given work.
"""

from __future__ import annotations

from typing import Final

#: First pause of an agent that refused: in this time a full queue empties, or a stopping process
#: ends.
REST_S: Final = 1.0
#: Longest pause, also for a late reply, which may be lost.
LONGEST_S: Final = 60.0


class Rests:
    """Agents in back-off."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}  # end of the pause
        self._pause: dict[int, float] = {}  # length of the last pause
        self._owed: dict[int, int] = {}  # id of a request -> helper

    def begin(self, index: int, *, now_s: float, owes: int | None = None) -> None:
        """Start an agent's back-off; ``owes`` is the id of its unanswered request."""
        if owes is not None:
            self._owed[owes] = index
            self._until[index] = now_s + LONGEST_S
            return
        pause = min(2.0 * self._pause.get(index, 0.5 * REST_S), LONGEST_S)
        self._pause[index] = pause
        self._until[index] = now_s + pause

    def answered(self, request_id: int, *, now_s: float) -> None:
        """Record a late reply; the back-off of its sender ends."""
        index = self._owed.pop(request_id, None)
        if index is not None and index in self._until:
            self._until[index] = now_s

    def served(self, index: int) -> None:
        """Record a result in time: the next pause is the first one again."""
        self._pause.pop(index, None)

    def end(self, index: int) -> None:
        """Forget an agent's back-off and unanswered requests: its connection was replaced."""
        self._until.pop(index, None)
        self._owed = {owed: helper for owed, helper in self._owed.items() if helper != index}

    def due(self, *, now_s: float) -> list[int]:
        """Agents whose pause is over; each is returned once."""
        ready = [index for index, when_s in self._until.items() if when_s <= now_s]
        for index in ready:
            self.end(index)
        return ready

    def patience_s(self, timeout_s: float, *, now_s: float) -> float:
        """Shorten a timeout so that it ends with the next pause."""
        first_s = min(self._until.values(), default=None)
        return timeout_s if first_s is None else min(timeout_s, max(0.0, first_s - now_s))
