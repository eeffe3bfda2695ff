r"""Energy that the boards consumed in a run, from the agents' counters at its start and end.

.. math:: E = \Delta E, \quad E_\text{net} = E - P_\text{idle}\,T, \quad
          u^2(E) = (\gamma E)^2 + (o\,T)^2 + v, \quad
          u^2(E_\text{net}) = (\gamma E_\text{net})^2 + (u_\text{idle} T)^2 + v

with the sensor's gain error :math:`\gamma` and offset :math:`o`, and the variance :math:`v` of the
power between samples. One sensor measured both idle and run: its offset cancels in the net energy,
and its gain error applies to the difference only (own derivation, docs/explanation/power.md).
"""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from siftmoe.agent.wire.protocol import Stats, StatsReply
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.coordinator.ledger.store import BoardRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from siftmoe.coordinator.client.requests import Client
    from siftmoe.coordinator.ledger.store import Ledger

_log = logging.getLogger(__name__)

#: The agent's listening thread answers requests for stats; a busy board may be slow.
STATS_DEADLINE_S: Final = 2.0
#: Prefix of the summed rails in an agent's reply; the names of the rails follow.
_TOTAL: Final = "total = "
_GROWING: Final = (
    "uptime_s",
    "board_energy_j",
    "board_sampling_var_j2",
    "board_time_s",
    "board_samples",
)
_COUNTERS: Final = (
    *_GROWING,
    "board_longest_gap_s",
    "board_gain_std",
    "board_offset_std_w",
    "idle_power_w",
    "idle_power_std_w",
)


@contextmanager
def board_energy(client: Client, ledger: Ledger) -> Iterator[None]:
    """Book the boards' energy while the block runs, in the ledger's current run.

    Agents without power sensors have no row.
    """
    before = ask_stats(client)
    try:
        yield
    finally:
        after = ask_stats(client)
        names = client.fleet.names
        for n in sorted(before.keys() - after):
            _log.warning("agent %r is gone; its board's energy is not known", names[n])
        rows = [board_row(names[n], before[n], after[n]) for n in sorted(before.keys() & after)]
        ledger.record(*[row for row in rows if row is not None])


def ask_stats(client: Client) -> dict[int, StatsReply]:
    """Request the stats of all ready or hot agents; late replies are left out."""
    client.poll()
    asked = {
        index: Stats(id=client.next_id())
        for index, agent in enumerate(client.fleet)
        if agent.state in (AgentState.READY, AgentState.HOT)
    }
    if not asked:
        return {}
    got = client.exchange(asked, deadline_s=STATS_DEADLINE_S)
    for failure in got.failures.values():
        _log.warning("board power: %s", failure)
    return {index: reply for index, reply in got.replies.items() if isinstance(reply, StatsReply)}


def board_row(agent: str, before: StatsReply, after: StatsReply) -> BoardRow | None:
    """Row of one board between two replies; None without sensors or after a restart."""
    first, last = before.counters, after.counters
    if not all(name in first and name in last for name in _COUNTERS):
        return None
    if _restarted(first, last):
        _log.warning("agent %r was started anew; its board's energy is not known", agent)
        return None
    energy = last["board_energy_j"] - first["board_energy_j"]
    duration = last["board_time_s"] - first["board_time_s"]
    between = last["board_sampling_var_j2"] - first["board_sampling_var_j2"]
    gain, offset = last["board_gain_std"], last["board_offset_std_w"]
    idle, idle_std = last["idle_power_w"], last["idle_power_std_w"]
    net = energy - idle * duration
    return BoardRow(
        agent=agent,
        rails=_rails(after),
        energy_j=energy,
        energy_std_j=math.hypot(gain * energy, offset * duration, math.sqrt(between)),
        idle_power_w=idle,
        idle_power_std_w=math.hypot(idle_std, gain * idle, offset),
        duration_s=duration,
        net_j=net,
        net_std_j=math.hypot(gain * net, idle_std * duration, math.sqrt(between)),
        samples=int(last["board_samples"] - first["board_samples"]),
        longest_gap_s=last["board_longest_gap_s"],
    )


def _restarted(first: Mapping[str, float], last: Mapping[str, float]) -> bool:
    """Whether the agent restarted: a counter fell, or the idle power was measured again."""
    names = ("idle_power_w", "idle_power_std_w")
    return any(last[n] < first[n] for n in _GROWING) or any(first[n] != last[n] for n in names)


def _rails(reply: StatsReply) -> str:
    totals = [name for name in reply.power_w if name.startswith(_TOTAL)]
    return totals[0].removeprefix(_TOTAL) if totals else ""
