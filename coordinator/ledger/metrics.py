"""Prometheus metrics of a run, read from its ledger while it is written.

Metrics show exactly the booked rows and cost no time in a forward pass. A separate reader of the
file adds the rows that are new since the last request.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from siftmoe.agent.process.exposition import Family, Samples
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.coordinator.ledger.file import connect
from siftmoe.radio.channel.link import Source, weakest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    Key = tuple[str, ...]

_P: Final = "siftmoe_coordinator_"
_LINK: Final = ("run", "agent", "direction")

STATE: Final = Family(
    f"{_P}agent_state", "gauge", "1 for the state that an agent is in, else 0.", ("agent", "state")
)
STEPS: Final = Family(
    f"{_P}steps_total", "counter", "Forward passes of the model.", ("run", "kind", "outcome")
)
TOKENS: Final = Family(
    f"{_P}tokens_total", "counter", "Tokens of steps that came to an end.", ("run", "kind")
)
LATENCY: Final = Family(
    f"{_P}latency_seconds_total", "counter", "Latency on the run's clock.", ("run", "kind")
)
PARTS: Final = Family(
    f"{_P}latency_part_seconds_total",
    "counter",
    "What the latency consists of; what these leave of it is the rest.",
    ("run", "kind", "part"),
)
WALL: Final = Family(
    f"{_P}wall_seconds_total", "counter", "What the machine took.", ("run", "kind")
)
SLOTS: Final = Family(
    f"{_P}slots_total", "counter", "Experts of tokens, by what became of them.", ("run", "decision")
)
UNSERVED: Final = Family(
    f"{_P}unserved_slots_total",
    "counter",
    "Skipped slots that were to be served: late ones, and those of helpers that failed.",
    ("run", "reason"),
)
FAULTS: Final = Family(
    f"{_P}faults_total", "counter", "Layers for which an agent gave no result.", ("agent", "kind")
)
ENERGY: Final = Family(
    f"{_P}transmit_energy_joules_total",
    "counter",
    "Energy of transmissions, by how trustworthy it is.",
    (*_LINK, "source"),
)
CONTROL: Final = Family(
    f"{_P}control_energy_joules_total",
    "counter",
    "Of the energy of transmissions, what headers, experts and weights took.",
    _LINK,
)
CIRCUITS: Final = Family(
    f"{_P}circuit_energy_joules_total",
    "counter",
    "Energy of circuits during transmissions, beside what is radiated; at the sender or receiver.",
    (*_LINK, "end"),
)
BURSTS: Final = Family(f"{_P}transmissions_total", "counter", "Transmissions.", _LINK)
AIRTIME: Final = Family(f"{_P}airtime_seconds_total", "counter", "Time on the air.", _LINK)
PAYLOAD: Final = Family(f"{_P}payload_bytes_total", "counter", "Payload of transmissions.", _LINK)
MISSED: Final = Family(
    f"{_P}missed_tokens_total", "counter", "Tokens that did not arrive in their window.", _LINK
)
GAIN: Final = Family(
    f"{_P}channel_gain_ratio",
    "gauge",
    "Path gain that the last transmission was planned on.",
    ("agent", "direction"),
)
SOUNDINGS: Final = Family(
    f"{_P}soundings_total", "counter", "Pilot exchanges.", ("agent", "direction", "outcome")
)
SOUNDING_ENERGY: Final = Family(
    f"{_P}sounding_energy_joules_total",
    "counter",
    "Energy of pilots, by how trustworthy it is.",
    ("agent", "direction", "source"),
)

FAMILIES: Final[tuple[Family, ...]] = (
    *(STATE, STEPS, TOKENS, LATENCY, PARTS, WALL, SLOTS, UNSERVED, FAULTS, ENERGY, BURSTS),
    *(CONTROL, CIRCUITS, AIRTIME, PAYLOAD, MISSED, GAIN, SOUNDINGS, SOUNDING_ENERGY),
)

_PART_NAMES: Final = ("airtime", "solve", "queue", "compute", "backbone")
_BITS_PER_BYTE: Final = 8.0

_STEP_SQL: Final = """
    SELECT label, kind, aborted, count(*), sum(tokens), sum(latency_s), sum(wall_s),
           sum(step.airtime_s), sum(solve_s), sum(queue_s), sum(compute_s), sum(backbone_s)
    FROM step JOIN run USING (run) WHERE (run, step) > (?, ?) GROUP BY run, kind, aborted"""
_SELECTION_SQL: Final = """
    SELECT label, sum(kept), sum(replaced), sum(skipped), sum(lost), sum(faulted)
    FROM selection JOIN run USING (run) WHERE selection.rowid > ? GROUP BY run"""
_TRANSMISSION_SQL: Final = """
    SELECT label, agent, direction, power_source, airtime_source, count(*), sum(energy_j),
           sum(control_j), sum(circuit_tx_j), sum(circuit_rx_j), sum(airtime_s),
           sum(payload_bits), sum(missed), channel_gain, max(transmission.rowid)
    FROM transmission JOIN run USING (run) WHERE transmission.rowid > ?
    GROUP BY run, agent, direction, power_source, airtime_source
    ORDER BY max(transmission.rowid)"""
_SOUNDING_SQL: Final = """
    SELECT agent, direction, detected, power_source, airtime_source, count(*), sum(energy_j)
    FROM sounding WHERE rowid > ? GROUP BY agent, direction, detected, power_source, airtime_source
    """
_FAULT_SQL: Final = """
    SELECT agent, kind, count(*) FROM fault WHERE rowid > ? GROUP BY agent, kind"""
_LAST_SQL: Final = {
    name: f"SELECT coalesce(max(rowid), 0) FROM {name}"  # noqa: S608 - names of this module
    for name in ("selection", "transmission", "sounding", "fault")
}


class LedgerMetrics:
    """Follows a ledger; may be called from any thread.

    Parameters
    ----------
    path : Path
        The ledger's file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._last_step = (0, -1)
        self._last_rows = dict.fromkeys(_LAST_SQL, 0)
        self._counted: dict[Family, defaultdict[Key, float]] = {
            family: defaultdict(float) for family in FAMILIES if family is not STATE
        }

    def samples(self) -> Iterator[Samples]:
        """Return the samples of all booked rows.

        Raises
        ------
        LedgerError
            If the file can no longer be read.
        """
        with self._lock:
            connection = connect(self._path, mode="ro")
            try:
                connection.execute("BEGIN")  # all tables as of one moment
                self._follow(connection)
            finally:
                connection.close()
            shown = [Samples(family, dict(values)) for family, values in self._counted.items()]
        yield from shown

    def _follow(self, connection: sqlite3.Connection) -> None:
        for row in connection.execute(_STEP_SQL, self._last_step):
            self._take_steps(*row)
        for row in connection.execute(_SELECTION_SQL, (self._last_rows["selection"],)):
            self._take_selections(*row)
        for row in connection.execute(_TRANSMISSION_SQL, (self._last_rows["transmission"],)):
            self._take_transmissions(*row)
        for row in connection.execute(_SOUNDING_SQL, (self._last_rows["sounding"],)):
            self._take_soundings(*row)
        for agent, kind, count in connection.execute(_FAULT_SQL, (self._last_rows["fault"],)):
            self._counted[FAULTS][agent, kind] += count
        last = connection.execute("SELECT run, step FROM step ORDER BY run DESC, step DESC LIMIT 1")
        self._last_step = last.fetchone() or self._last_step
        for name, statement in _LAST_SQL.items():
            self._last_rows[name] = connection.execute(statement).fetchone()[0]

    def _take_steps(
        self,
        run: str,
        kind: str,
        aborted: int,
        count: int,
        tokens: int,
        latency_s: float,
        wall_s: float,
        *parts_s: float,
    ) -> None:
        self._counted[STEPS][run, kind, "aborted" if aborted else "completed"] += count
        if aborted:  # in no sum, as in the ledger's summary
            return
        self._counted[TOKENS][run, kind] += tokens
        self._counted[LATENCY][run, kind] += latency_s
        self._counted[WALL][run, kind] += wall_s
        for part, seconds in zip(_PART_NAMES, parts_s, strict=True):
            self._counted[PARTS][run, kind, part] += seconds

    def _take_selections(self, run: str, *counts: int) -> None:
        kept, replaced, skipped, lost, faulted = counts
        for decision, count in (("kept", kept), ("replaced", replaced), ("skipped", skipped)):
            self._counted[SLOTS][run, decision] += count
        for reason, count in (("late", lost), ("fault", faulted)):
            self._counted[UNSERVED][run, reason] += count

    def _take_transmissions(self, *row: Any) -> None:
        run, agent, direction, power, airtime, count, energy_j, *rest = row
        control_j, sending_j, receiving_j, airtime_s, bits, missed, gain, _ = rest
        link = (run, agent, direction)
        source = weakest(Source(power), Source(airtime)).value
        self._counted[ENERGY][run, agent, direction, source] += energy_j
        self._counted[CONTROL][link] += control_j
        self._counted[CIRCUITS][run, agent, direction, "sender"] += sending_j
        self._counted[CIRCUITS][run, agent, direction, "receiver"] += receiving_j
        self._counted[BURSTS][link] += count
        self._counted[AIRTIME][link] += airtime_s
        self._counted[PAYLOAD][link] += bits / _BITS_PER_BYTE
        self._counted[MISSED][link] += missed
        self._counted[GAIN][agent, direction] = gain  # that of the last row, see SQLite's max()

    def _take_soundings(self, *row: Any) -> None:
        agent, direction, detected, power, airtime, count, energy_j = row
        outcome = "detected" if detected else "missed"
        source = weakest(Source(power), Source(airtime)).value
        self._counted[SOUNDINGS][agent, direction, outcome] += count
        self._counted[SOUNDING_ENERGY][agent, direction, source] += energy_j


def fleet_samples(states: Mapping[str, AgentState]) -> Samples:
    """Return the samples of the agents' states, by name."""
    return Samples(
        STATE,
        {
            (agent, state.value): float(now is state)
            for agent, now in states.items()
            for state in AgentState
        },
    )
