r"""Sums over a run, per source.

Assumed of the uncertainties: all bursts of one transmitter share one calibration, so their errors
are fully correlated and add linearly; different transmitters were calibrated independently, so
theirs add in squares. Uplink bursts are all of the user's device, downlink bursts of one helper
each:

.. math:: u_\text{up} = \sum_i u_i, \qquad
          u_\text{down} = \sqrt{\sum_n \left(\sum_{i \in n} u_i\right)^2}

Where a part of an uncertainty is of the single burst, as a channel estimate's, this overstates it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from siftmoe.coordinator.ledger_rows import weakest
from siftmoe.radio.link import Source

if TYPE_CHECKING:
    import sqlite3

    from siftmoe.coordinator.ledger_rows import StepKind


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value and its standard uncertainty."""

    value: float
    std: float

    def __add__(self, other: Quantity) -> Quantity:
        """Sum of independent quantities."""
        return Quantity(self.value + other.value, math.hypot(self.std, other.std))

    def __truediv__(self, number: float) -> Quantity:
        return Quantity(self.value / number, self.std / number)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransmissionSum:
    """Bursts of one source and one direction.

    Parameters
    ----------
    source : Source
        Of the energy: the weaker of the sources of power and airtime.
    direction : str
        "up" or "down".
    bursts : int
    tokens : int
        A token counts once per burst that carries it.
    missed : int
        Tokens of them that did not arrive within their window.
    payload_bits : float
    airtime_s : float, s
        Of all bursts one after the other.
    energy : Quantity, J
    """

    source: Source
    direction: str
    bursts: int
    tokens: int
    missed: int
    payload_bits: float
    airtime_s: float
    energy: Quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """What the latency of the steps consists of, in seconds on the run's clock."""

    total_s: float
    airtime_s: float
    solve_s: float
    queue_s: float
    compute_s: float
    backbone_s: float

    @property
    def rest_s(self) -> float:
        """What the named parts leave of the total."""
        parts = self.airtime_s + self.solve_s + self.queue_s + self.compute_s + self.backbone_s
        return self.total_s - parts

    def per_token(self, tokens: int) -> Latency:
        """Average over tokens; NaN if there are none."""
        return Latency(**{name: _ratio(value, tokens) for name, value in asdict(self).items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Sums over the steps of a run.

    Parameters
    ----------
    label : str
    steps, tokens : int
    wall_s : float, s
        On the machine's clock.
    latency : Latency
    transmissions : tuple of TransmissionSum
        By source and direction; sources are never added up here.
    kept, replaced, skipped : int
        Slots.
    predicted_energy_j : float, J
        What the policies predicted, summed.
    status : dict
        How many selections ended with which status.
    excluded : dict
        For how many selections which helpers were left out, and why.
    aborted : int
        Steps that broke off; nothing of them is in the other sums.
    aborted_energy_j : float, J
        What they had transmitted, both directions.
    """

    label: str
    steps: int
    tokens: int
    wall_s: float
    latency: Latency
    transmissions: tuple[TransmissionSum, ...]
    kept: int
    replaced: int
    skipped: int
    predicted_energy_j: float
    status: dict[str, int]
    excluded: dict[str, int]
    aborted: int
    aborted_energy_j: float

    @property
    def sources(self) -> tuple[Source, ...]:
        """Sources of the energies; more than one: name them wherever a total is shown."""
        return tuple(sorted({part.source for part in self.transmissions}))

    def energy(self, *, source: Source | None = None, direction: str | None = None) -> Quantity:
        """Energy in joule of one source and direction, or of all; see ``sources``."""
        total = Quantity(0.0, 0.0)
        for part in self.transmissions:
            if source in (None, part.source) and direction in (None, part.direction):
                # Another source is another calibration, another direction another transmitter.
                total = total + part.energy
        return total

    def energy_per_token(
        self, *, source: Source | None = None, direction: str | None = None
    ) -> Quantity:
        """Energy in joule per token of the steps; NaN if there are none."""
        energy = self.energy(source=source, direction=direction)
        return energy / self.tokens if self.tokens else Quantity(math.nan, math.nan)

    @property
    def outage(self) -> float:
        """Share of the tokens sent to helpers that missed their window; NaN if none was sent."""
        up = [part for part in self.transmissions if part.direction == "up"]
        return _ratio(sum(part.missed for part in up), sum(part.tokens for part in up))

    @property
    def airtime_per_token_s(self) -> float:
        """Airtime of all bursts, per token; NaN if there are none."""
        return _ratio(sum(part.airtime_s for part in self.transmissions), self.tokens)

    @property
    def latency_per_token(self) -> Latency:
        """Latency per token and its parts."""
        return self.latency.per_token(self.tokens)

    @property
    def shares(self) -> dict[str, float]:
        """Shares of slots kept, replaced and skipped; NaN if there are none."""
        counts = {"kept": self.kept, "replaced": self.replaced, "skipped": self.skipped}
        total = sum(counts.values())
        return {name: _ratio(count, total) for name, count in counts.items()}


def _ratio(value: float, count: int) -> float:
    return value / count if count else math.nan


def summarise(connection: sqlite3.Connection, *, run: int, kind: StepKind | None) -> Summary:
    """Sum a run's steps, of one kind or all.

    Parameters
    ----------
    connection : sqlite3.Connection
    run : int
        A run in the file.
    kind : str or None
    """
    values = {"run": run, "kind": kind}

    def query(statement: str) -> list[tuple[Any, ...]]:
        return connection.execute(statement.replace("CHOSEN", _CHOSEN), values).fetchall()

    (label,) = query("SELECT label FROM run WHERE run = :run")[0]
    steps, tokens, wall, *parts = query(_STEPS)[0]
    kept, replaced, skipped, predicted = query(_SELECTIONS)[0]
    aborted, aborted_energy_j = query(_ABORTED)[0]
    names = ("total_s", "airtime_s", "solve_s", "queue_s", "compute_s", "backbone_s")
    return Summary(
        label=label,
        steps=steps,
        tokens=tokens,
        wall_s=wall,
        latency=Latency(**dict(zip(names, parts, strict=True))),
        transmissions=_transmissions(query(_TRANSMISSIONS)),
        kept=kept,
        replaced=replaced,
        skipped=skipped,
        predicted_energy_j=predicted,
        status=dict(query(_STATUS)),
        excluded=dict(query(_EXCLUDED)),
        aborted=aborted,
        aborted_energy_j=aborted_energy_j,
    )


_CHOSEN = """
    run = :run AND step IN
    (SELECT step FROM step
     WHERE run = :run AND NOT aborted AND (:kind IS NULL OR kind = :kind))"""
_ABORTED = """
    SELECT count(DISTINCT step), total(energy_j) FROM step LEFT JOIN transmission USING (run, step)
    WHERE run = :run AND aborted AND (:kind IS NULL OR kind = :kind)"""
_STEPS = """
    SELECT count(*), coalesce(sum(tokens), 0), total(wall_s), total(latency_s), total(airtime_s),
           total(solve_s), total(queue_s), total(compute_s), total(backbone_s)
    FROM step WHERE CHOSEN"""
_SELECTIONS = """
    SELECT coalesce(sum(kept), 0), coalesce(sum(replaced), 0), coalesce(sum(skipped), 0),
           total(predicted_energy_j)
    FROM selection WHERE CHOSEN"""
_STATUS = "SELECT status, count(*) FROM selection WHERE CHOSEN GROUP BY status"
_EXCLUDED = """
    SELECT excluded, count(*) FROM selection WHERE CHOSEN AND excluded != '' GROUP BY excluded"""
_TRANSMISSIONS = """
    SELECT power_source, airtime_source, direction, agent, count(*), sum(tokens),
           sum(missed), total(payload_bits), total(airtime_s), total(energy_j), total(energy_std_j)
    FROM transmission WHERE CHOSEN
    GROUP BY power_source, airtime_source, direction, agent
    ORDER BY power_source, airtime_source, direction, agent"""


def _transmissions(rows: list[tuple[Any, ...]]) -> tuple[TransmissionSum, ...]:
    groups: dict[tuple[Source, str], list[tuple[Any, ...]]] = defaultdict(list)
    for power, airtime, direction, *rest in rows:
        groups[weakest(Source(power), Source(airtime)), direction].append(tuple(rest))
    return tuple(_sum(source, direction, rows) for (source, direction), rows in groups.items())


def _sum(source: Source, direction: str, rows: list[tuple[Any, ...]]) -> TransmissionSum:
    """Add up rows of (agent, bursts, tokens, missed, bits, airtime, energy, uncertainty)."""
    by_transmitter: dict[str, float] = defaultdict(float)
    for agent, *_, std in rows:
        by_transmitter[agent if direction == "down" else ""] += std
    sums = (sum(row[i] for row in rows) for i in range(1, 7))
    bursts, tokens, missed, bits, airtime, energy = sums
    return TransmissionSum(
        source=source,
        direction=direction,
        bursts=bursts,
        tokens=tokens,
        missed=missed,
        payload_bits=bits,
        airtime_s=airtime,
        energy=Quantity(energy, math.hypot(*by_transmitter.values())),
    )
