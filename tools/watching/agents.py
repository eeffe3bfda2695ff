"""Asks agents for their status, once or repeatedly over one connection."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec

from siftmoe.agent.wire.protocol import Stats, StatsReply
from siftmoe.coordinator.client.health.heat import hot
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.coordinator.fleet.placement import Placement
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.tools.flashing.health import release_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from siftmoe.coordinator.fleet.status import AgentStatus
    from siftmoe.tools.flashing.site import Site

#: Time limit of an answer; agents answer while they compute. A slower one shows only its state.
STATS_S: Final = 2.0
#: A board is shown as hot this far below its throttling temperature, at which a run leaves it out.
HOT_MARGIN_K: Final = 5.0
#: Prefix of the sum of rails in a reply; the names of the rails follow.
_TOTAL: Final = "total = "
#: Interval at which connections are served between two looks.
_POLL_S: Final = 0.1

Row = dict[str, Any]


class Agents:
    """Some agents of a testbed; made by `watching`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._rows_done: dict[int, tuple[float, float]] = {}  # index -> rows, uptime

    def look(self) -> list[Row]:
        """Ask every ready agent for its status, and return a row for every agent."""
        stats = self._ask()
        return [self._row(agent, stats.get(agent.index)) for agent in self._client.fleet]

    def wait(self, seconds: float) -> None:
        """Wait, and keep the connections up to date meanwhile."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0.0:
            time.sleep(min(left_s, _POLL_S))
            self._client.poll()

    def _ask(self) -> dict[int, StatsReply]:
        """Ask every ready agent, including those that become ready meanwhile."""
        self._client.poll()
        asked: set[int] = set()
        found: dict[int, StatsReply] = {}
        while ready := self._ready() - asked:
            requests = {index: Stats(id=self._client.next_id()) for index in sorted(ready)}
            replies = self._client.exchange(requests, deadline_s=STATS_S).replies
            found |= {n: reply for n, reply in replies.items() if isinstance(reply, StatsReply)}
            asked |= ready
        return found

    def _ready(self) -> set[int]:
        return {a.index for a in self._client.fleet if a.state is AgentState.READY}

    def _row(self, agent: AgentStatus, stats: StatsReply | None) -> Row:
        hello = agent.hello
        row: Row = {
            "agent": agent.name,
            "state": agent.state.value,
            "reason": agent.reason,
            "release": release_of(agent),
            "version": hello.version.partition("+")[0] if hello else "",
            "provider": hello.provider if hello else "",
            "experts": len(hello.residents) if hello else 0,
            "stats": None if stats is None else _figures(stats),
        }
        rate = self._rate(agent.index, stats)
        return row | summary(stats) | {"rows_per_s": rate}

    def _rate(self, index: int, stats: StatsReply | None) -> float | None:
        """Return vectors per second since the last look; None at first and after a restart."""
        before = self._rows_done.pop(index, None)
        if stats is None or "uptime_s" not in stats.counters:
            return None
        rows, uptime_s = stats.counters.get("rows", 0.0), stats.counters["uptime_s"]
        self._rows_done[index] = rows, uptime_s
        if before is None or uptime_s <= before[1]:
            return None
        return (rows - before[0]) / (uptime_s - before[1])


def summary(stats: StatsReply | None) -> Row:
    """Return the figures of a table's row; None where unknown."""
    if stats is None:
        names = ("queue", "memory_bytes", "memory_free_bytes", "temperature_c", "power_w")
        return {**dict.fromkeys(names), "hot": []}
    counters = stats.counters
    totals = [power for rail, power in stats.power_w.items() if rail.startswith(_TOTAL)]
    return {
        "queue": int(counters.get("queued", 0.0)),
        "memory_bytes": counters.get("memory_bytes"),
        "memory_free_bytes": counters.get("board_memory_available_bytes"),
        "temperature_c": max(stats.temperature_c.values(), default=None),
        "power_w": totals[0] if totals else None,
        "hot": hot(stats, margin_k=HOT_MARGIN_K),
    }


def _figures(stats: StatsReply) -> Row:
    names = ("counters", "power_w", "temperature_c", "limit_c", "throttling")
    return {name: msgspec.to_builtins(getattr(stats, name)) for name in names}


@contextmanager
def watching(site: Site, chosen: Sequence[int], *, timeout_s: float) -> Iterator[Agents]:
    """Connect to agents, and wait until they answer or the time is over.

    Parameters
    ----------
    site : Site
    chosen : sequence of int
        Agents by their place in the testbed file.
    timeout_s : float, s

    Raises
    ------
    ConfigError, KeyUnusable
        If an agent beyond this machine has no key, or the coordinator's cannot be used.
    """
    bundle = site.bundle()
    experts = site.placement(bundle).experts
    fleet = Fleet(
        [site.agent(index) for index in chosen],
        shape=bundle.shape,
        model_hash=bundle.model_hash,
        placement=Placement(tuple(experts[index] for index in chosen)),
        now_s=time.monotonic(),
    )
    with Client(fleet, security=site.security()) as client:
        client.wait_ready(timeout_s=timeout_s)
        yield Agents(client)
