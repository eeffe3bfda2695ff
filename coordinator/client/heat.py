"""Which agents are too hot to be given work, by what they say of their boards. Knows no socket.

A hot board is slow rather than wrong: it lowers its clocks until it has cooled, and in the end
switches itself off. It is left out from the moment a zone reaches its limit or a measure against
heat is on, and comes back when every zone is clearly below and no measure is on, so that one that
hovers at its limit does not come and go with every question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from siftmoe.agent.wire.protocol import StatsReply

#: How often every agent is asked. Boards warm by a kelvin or two a second, and an agent reads its
#: sensors at most once a second; a question costs the coordinator some 20 µs.
ASK_S: Final = 2.0
#: So far below its limits a board that was hot has to be before it is used again.
COOL_K: Final = 5.0


def hot(stats: StatsReply, *, margin_k: float) -> list[str]:
    """Say what is hot at a board and what it does about it; nothing if all is well.

    Parameters
    ----------
    stats : StatsReply
    margin_k : float, K
        So far below its limit a zone counts as hot.
    """
    found = [
        f"{zone} {stats.temperature_c[zone]:.0f} of {limit_c:.0f} °C"
        for zone, limit_c in stats.limit_c.items()
        if zone in stats.temperature_c and stats.temperature_c[zone] >= limit_c - margin_k
    ]
    return found + [f"{name} {share:.0%}" for name, share in stats.throttling.items() if share > 0]


class Heats:
    """Whom to ask how warm it is, and when, and what follows from the answer.

    Parameters
    ----------
    cool_k : float, K
        So far below its limits a board that was hot has to be before it is used again.
    ask_s : float, s
        How often every agent is asked.
    """

    def __init__(self, *, cool_k: float = COOL_K, ask_s: float = ASK_S) -> None:
        self._cool_k, self._ask_s = cool_k, ask_s
        self._next_s: dict[int, float] = {}  # when each is asked
        self._asked: dict[int, int] = {}  # helper -> id of the last question

    def begin(self, index: int, *, now_s: float) -> None:
        """Ask an agent from now on: it has just said who it is."""
        self._next_s[index] = now_s

    def end(self, index: int) -> None:
        """Ask an agent no more: it is gone."""
        self._next_s.pop(index, None)
        self._asked.pop(index, None)

    def due(self, *, now_s: float) -> list[int]:
        """Agents to ask now, and again later."""
        ready = [index for index, when_s in self._next_s.items() if when_s <= now_s]
        for index in ready:
            self._next_s[index] = now_s + self._ask_s
        return ready

    def ask(self, index: int, request_id: int) -> None:
        """Take note of a question; an answer to an earlier one counts no more."""
        self._asked[index] = request_id

    def is_answer(self, index: int, request_id: int) -> bool:
        """Whether this is the answer to an agent's last question."""
        return self._asked.get(index) == request_id

    def why_leave(self, stats: StatsReply) -> str:
        """Say why an agent is to be left out that was not; empty if it is not."""
        return ", ".join(hot(stats, margin_k=0.0))

    def may_return(self, stats: StatsReply) -> bool:
        """Whether an agent that was left out for heat has cooled."""
        return not hot(stats, margin_k=self._cool_k)

    def patience_s(self, timeout_s: float, *, now_s: float) -> float:
        """Shorten a wait so that it ends when there is something to do here."""
        first_s = min(self._next_s.values(), default=None)
        return timeout_s if first_s is None else min(timeout_s, max(0.0, first_s - now_s))
