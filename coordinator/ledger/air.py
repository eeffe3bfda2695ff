"""Sums of bursts and pilot exchanges, by source and direction."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from siftmoe.coordinator.ledger.energy import Part, grouped, part_of

if TYPE_CHECKING:
    import sqlite3

    from siftmoe.radio.channel.link import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class TransmissionSum(Part):
    """Bursts of one source and one direction.

    Parameters
    ----------
    bursts : int
    tokens : int
        A token counts once per burst that carries it.
    missed : int
        Of these, tokens that did not arrive within their window.
    payload_bits : float
    airtime_s : float, s
        Of all bursts one after the other.
    """

    bursts: int
    tokens: int
    missed: int
    payload_bits: float
    airtime_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundingSum(Part):
    """Pilot exchanges of one source and one direction.

    Parameters
    ----------
    exchanges, detected : int
        Number of exchanges, and of those in which the pilots were detected.
    airtime_s : float, s
    """

    exchanges: int
    detected: int
    airtime_s: float


#: Selects the summed steps of a ``:run`` and a ``:kind``, which is NULL for all.
CHOSEN: Final = """
    run = :run AND step IN
    (SELECT step FROM step
     WHERE run = :run AND NOT aborted AND (:kind IS NULL OR kind = :kind))"""
_TRANSMISSIONS = """
    SELECT power_source, airtime_source, direction, agent, count(*), sum(tokens),
           sum(missed), total(payload_bits), total(airtime_s), total(energy_j), total(energy_std_j)
    FROM transmission WHERE CHOSEN
    GROUP BY power_source, airtime_source, direction, agent
    ORDER BY power_source, airtime_source, direction, agent"""

_SOUNDINGS = """
    SELECT power_source, airtime_source, direction, agent, count(*), sum(detected),
           total(airtime_s), total(energy_j), total(energy_std_j)
    FROM sounding WHERE run = :run
    GROUP BY power_source, airtime_source, direction, agent
    ORDER BY power_source, airtime_source, direction, agent"""


def transmission_sums(
    connection: sqlite3.Connection, values: dict[str, Any]
) -> tuple[TransmissionSum, ...]:
    """Add up the bursts of a run's steps; the values are those of ``CHOSEN``."""
    # …, agent, bursts, …, energy, uncertainty
    rows = connection.execute(_TRANSMISSIONS.replace("CHOSEN", CHOSEN), values)
    return tuple(
        TransmissionSum(
            **_part(key, group),
            bursts=sum(row[1] for row in group),
            tokens=sum(row[2] for row in group),
            missed=sum(row[3] for row in group),
            payload_bits=sum(row[4] for row in group),
            airtime_s=sum(row[5] for row in group),
        )
        for key, group in grouped(rows).items()
    )


def sounding_sums(
    connection: sqlite3.Connection, values: dict[str, Any]
) -> tuple[SoundingSum, ...]:
    """Add up the pilot exchanges of a run; of the values only the run counts."""
    rows = connection.execute(_SOUNDINGS, values)  # …, agent, exchanges, …, energy, uncertainty
    return tuple(
        SoundingSum(
            **_part(key, group),
            exchanges=sum(row[1] for row in group),
            detected=sum(row[2] for row in group),
            airtime_s=sum(row[3] for row in group),
        )
        for key, group in grouped(rows).items()
    )


def _part(key: tuple[Source, str], group: list[tuple[Any, ...]]) -> dict[str, Any]:
    part = part_of(key, [(row[0], row[-2], row[-1]) for row in group])
    return {field.name: getattr(part, field.name) for field in fields(part)}
