"""Decides which agents are too hot to use, from the stats of their boards. Uses no socket.

A hot board gives right results slowly: it lowers its clocks until it has cooled, and finally
switches itself off. It is excluded as soon as a zone reaches its limit or throttling is active, and
used again when every zone is below its limit by a margin and no throttling is active. The margin
prevents a board at its limit from changing state with every reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from siftmoe.agent.wire.protocol import StatsReply

#: Interval between two requests for stats. Boards warm by a kelvin or two a second, and an agent
#: reads its sensors at most once a second; a request costs the coordinator some 20 µs.
ASK_S: Final = 2.0
#: Margin below its limits to which a hot board must cool before it is used again.
COOL_K: Final = 5.0


def hot(stats: StatsReply, *, margin_k: float) -> list[str]:
    """List a board's hot zones and active throttling; empty if there are none.

    Parameters
    ----------
    stats : StatsReply
    margin_k : float, K
        A zone counts as hot this far below its limit.
    """
    found = [
        f"{zone} {stats.temperature_c[zone]:.0f} of {limit_c:.0f} °C"
        for zone, limit_c in stats.limit_c.items()
        if zone in stats.temperature_c and stats.temperature_c[zone] >= limit_c - margin_k
    ]
    return found + [f"{name} {share:.0%}" for name, share in stats.throttling.items() if share > 0]


class Heats:
    """Schedules requests for temperatures, and judges the replies.

    Parameters
    ----------
    cool_k : float, K
        Margin below its limits to which a hot board must cool before it is used again.
    ask_s : float, s
        Interval between two requests to an agent.
    """

    def __init__(self, *, cool_k: float = COOL_K, ask_s: float = ASK_S) -> None:
        self._cool_k, self._ask_s = cool_k, ask_s
        self._next_s: dict[int, float] = {}  # when each is asked
        self._asked: dict[int, int] = {}  # helper -> id of the last question

    def begin(self, index: int, *, now_s: float) -> None:
        """Start requests to an agent, which has just answered a hello."""
        self._next_s[index] = now_s

    def end(self, index: int) -> None:
        """Stop requests to an agent, which is disconnected."""
        self._next_s.pop(index, None)
        self._asked.pop(index, None)

    def due(self, *, now_s: float) -> list[int]:
        """Agents whose request is due now; their next one is scheduled."""
        ready = [index for index, when_s in self._next_s.items() if when_s <= now_s]
        for index in ready:
            self._next_s[index] = now_s + self._ask_s
        return ready

    def ask(self, index: int, request_id: int) -> None:
        """Record a request; replies to earlier ones are ignored from now on."""
        self._asked[index] = request_id

    def is_answer(self, index: int, request_id: int) -> bool:
        """Whether this is the reply to an agent's last request."""
        return self._asked.get(index) == request_id

    def why_leave(self, stats: StatsReply) -> str:
        """Reason to exclude an agent that is in use; empty if there is none."""
        return ", ".join(hot(stats, margin_k=0.0))

    def may_return(self, stats: StatsReply) -> bool:
        """Whether an agent that was excluded for heat has cooled."""
        return not hot(stats, margin_k=self._cool_k)

    def patience_s(self, timeout_s: float, *, now_s: float) -> float:
        """Shorten a timeout so that it ends when the next request is due."""
        first_s = min(self._next_s.values(), default=None)
        return timeout_s if first_s is None else min(timeout_s, max(0.0, first_s - now_s))
