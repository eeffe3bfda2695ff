"""Sums over a run, per source; `siftmoe.coordinator.ledger.energy` adds uncertainties."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from siftmoe.coordinator.ledger.air import (
    CHOSEN,
    SoundingSum,
    TransmissionSum,
    sounding_sums,
    transmission_sums,
)
from siftmoe.coordinator.ledger.board import BoardSum, board_sums, boards_energy
from siftmoe.coordinator.ledger.energy import Part, Quantity, total
from siftmoe.coordinator.ledger.parts import EnergyPart, Owner, Use, energy_parts

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from siftmoe.coordinator.ledger.rows import StepKind
    from siftmoe.radio.channel.link import Source

__all__ = [
    "BoardSum",
    "EnergyPart",
    "Latency",
    "Owner",
    "Quantity",
    "SoundingSum",
    "Summary",
    "TransmissionSum",
    "Use",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Latency of the steps and its parts, in seconds on the run's clock."""

    total_s: float
    airtime_s: float
    solve_s: float
    queue_s: float
    compute_s: float
    backbone_s: float

    @property
    def rest_s(self) -> float:
        """Total less the named parts."""
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
    lost : int
        Slots skipped because their token missed its window.
    faulted : int
        Slots skipped because their helper failed and no other took over.
    predicted_energy_j : float, J
        Sum of the policies' predictions.
    status : dict
        Number of selections by status.
    excluded : dict
        Number of selections by excluded helpers and reasons.
    aborted : int
        Aborted steps; no other sum contains them.
    aborted_energy_j : float, J
        Transmit energy of the aborted steps, both directions.
    soundings : tuple of SoundingSum
        By source and direction; none in the sums of one kind of step, since they belong to no
        step.
    parts : tuple of EnergyPart
        The energy of the radio links by use, owner and source, circuits among them; pilots as
        `soundings`.
    boards : tuple of BoardSum
        By agent; none in the sums of one kind of step, since a board cannot tell them apart.
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
    lost: int
    faulted: int
    predicted_energy_j: float
    status: dict[str, int]
    excluded: dict[str, int]
    aborted: int
    aborted_energy_j: float
    soundings: tuple[SoundingSum, ...] = ()
    boards: tuple[BoardSum, ...] = ()
    parts: tuple[EnergyPart, ...] = ()

    @property
    def sources(self) -> tuple[Source, ...]:
        """Sources of the energies; more than one: name them wherever a total is shown."""
        return tuple(sorted({part.source for part in self.transmissions}))

    def energy(self, *, source: Source | None = None, direction: str | None = None) -> Quantity:
        """Energy in joule of one source and direction, or of all; see ``sources``."""
        return total(_chosen(self.transmissions, source, direction))

    def energy_per_token(
        self, *, source: Source | None = None, direction: str | None = None
    ) -> Quantity:
        """Energy in joule per token of the steps; NaN if there are none."""
        return self._per_token(self.energy(source=source, direction=direction))

    def sounding_energy(
        self, *, source: Source | None = None, direction: str | None = None
    ) -> Quantity:
        """Energy in joule of the pilot exchanges."""
        return total(_chosen(self.soundings, source, direction))

    def radio_energy(self, *, source: Source | None = None) -> Quantity:
        """Energy in joule of transmissions and pilot exchanges together."""
        return total(_chosen(chain(self.transmissions, self.soundings), source, None))

    def joule(
        self,
        *,
        use: Use | None = None,
        owner: Owner | None = None,
        source: Source | None = None,
        radiated: bool | None = None,
    ) -> Quantity:
        """Energy in joule of the radio links: all of it, or the named part.

        Parameters
        ----------
        use, owner, source : Use, Owner, Source, or None
        radiated : bool or None
            Only what is radiated, or only what circuits take.
        """
        return total(
            part
            for part in self.parts
            if use in (None, part.use)
            and owner in (None, part.owner)
            and source in (None, part.source)
            and radiated in (None, part.radiated)
        )

    def joule_per_token(self, **chosen: Any) -> Quantity:
        """Energy in joule per token of the steps; arguments as `joule`; NaN without tokens."""
        return self._per_token(self.joule(**chosen))

    @property
    def radiated_share(self) -> float:
        """Share of the energy of the radio links that is radiated; NaN if there is none."""
        whole = self.joule().value
        return self.joule(radiated=True).value / whole if whole else math.nan

    @property
    def energy_by_source(self) -> dict[Source, Quantity]:
        """Energy in joule that transmissions and pilot exchanges radiated, by source."""
        found = sorted({part.source for part in chain(self.transmissions, self.soundings)})
        return {source: self.radio_energy(source=source) for source in found}

    def board_energy(self, *, net: bool = False) -> Quantity:
        """Energy in joule of all measured boards: gross, or net of idling for as long."""
        return boards_energy(self.boards, net=net)

    def board_energy_per_token(self, *, net: bool = False) -> Quantity:
        """Energy in joule of the boards per token; NaN if no token or no board was measured."""
        if not self.boards:
            return Quantity(math.nan, math.nan)
        return self._per_token(self.board_energy(net=net))

    def _per_token(self, energy: Quantity) -> Quantity:
        return energy / self.tokens if self.tokens else Quantity(math.nan, math.nan)

    @property
    def outage(self) -> float:
        """Share of the slots sent to helpers that missed their window; NaN if none was sent."""
        return _ratio(self.lost, self.kept + self.replaced + self.lost)

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


def _chosen(parts: Iterable[Part], source: Source | None, direction: str | None) -> Iterable[Part]:
    for part in parts:
        if source in (None, part.source) and direction in (None, part.direction):
            yield part


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
        return connection.execute(statement.replace("CHOSEN", CHOSEN), values).fetchall()

    (label,) = query("SELECT label FROM run WHERE run = :run")[0]
    steps, tokens, wall, *parts = query(_STEPS)[0]
    kept, replaced, skipped, lost, faulted, predicted = query(_SELECTIONS)[0]
    aborted, aborted_energy_j = query(_ABORTED)[0]
    names = ("total_s", "airtime_s", "solve_s", "queue_s", "compute_s", "backbone_s")
    return Summary(
        label=label,
        steps=steps,
        tokens=tokens,
        wall_s=wall,
        latency=Latency(**dict(zip(names, parts, strict=True))),
        transmissions=transmission_sums(connection, values),
        kept=kept,
        replaced=replaced,
        skipped=skipped,
        lost=lost,
        faulted=faulted,
        predicted_energy_j=predicted,
        status=dict(query(_STATUS)),
        excluded=dict(query(_EXCLUDED)),
        soundings=sounding_sums(connection, values) if kind is None else (),
        boards=board_sums(connection, run=run) if kind is None else (),
        parts=energy_parts(connection, values, pilots=kind is None),
        aborted=aborted,
        aborted_energy_j=aborted_energy_j,
    )


_ABORTED = """
    SELECT count(DISTINCT step), total(energy_j) FROM step LEFT JOIN transmission USING (run, step)
    WHERE run = :run AND aborted AND (:kind IS NULL OR kind = :kind)"""
_STEPS = """
    SELECT count(*), coalesce(sum(tokens), 0), total(wall_s), total(latency_s), total(airtime_s),
           total(solve_s), total(queue_s), total(compute_s), total(backbone_s)
    FROM step WHERE CHOSEN"""
_SELECTIONS = """
    SELECT coalesce(sum(kept), 0), coalesce(sum(replaced), 0), coalesce(sum(skipped), 0),
           coalesce(sum(lost), 0), coalesce(sum(faulted), 0),
           total(predicted_energy_j)
    FROM selection WHERE CHOSEN"""
_STATUS = "SELECT status, count(*) FROM selection WHERE CHOSEN GROUP BY status"
_EXCLUDED = """
    SELECT excluded, count(*) FROM selection WHERE CHOSEN AND excluded != '' GROUP BY excluded"""
