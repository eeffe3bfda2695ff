r"""Parts of the joule: what it was spent on, whose battery paid, and how it is known.

.. math:: E = E_{vectors\,up} + E_{answers} + E_{control} + E_{pilots} + E_{circuits}

The first four are radiated. Control is the share of a burst's bits that are no vectors; circuits
are those of sender and receiver during the airtime, from the powers of the settings: modelled, of
no known uncertainty. Uplink bursts are the user's, and the circuits that receive answers; all else
is the helpers'. Own choice: docs/explanation/power.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from siftmoe.coordinator.ledger.air import CHOSEN
from siftmoe.coordinator.ledger.energy import USER, Part
from siftmoe.radio.channel.link import Source, weakest

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator


class Use(str, Enum):
    """What energy was spent on."""

    UPLINK = "hidden states up"
    ANSWERS = "answers down"
    CONTROL = "control"
    PILOTS = "pilots"
    CIRCUIT_TX = "circuits sending"
    CIRCUIT_RX = "circuits receiving"


#: Uses that are radiated.
RADIATED: Final = (Use.UPLINK, Use.ANSWERS, Use.CONTROL, Use.PILOTS)


class Owner(str, Enum):
    """Whose battery paid."""

    USER = "user"
    HELPERS = "helpers"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyPart(Part):
    """Energy of one use, owner, source and direction, J.

    Parameters
    ----------
    use : Use
    owner : Owner
    """

    use: Use
    owner: Owner

    @property
    def radiated(self) -> bool:
        """Whether it left an antenna."""
        return self.use in RADIATED


_BURSTS = """
    SELECT power_source, airtime_source, direction, agent,
           total(energy_j - control_j), total(energy_std_j * (energy_j - control_j) / energy_j),
           total(control_j), total(energy_std_j * control_j / energy_j),
           total(circuit_tx_j), total(circuit_rx_j)
    FROM transmission WHERE CHOSEN
    GROUP BY power_source, airtime_source, direction, agent
    ORDER BY power_source, airtime_source, direction, agent"""
_PILOTS = """
    SELECT power_source, airtime_source, direction, agent, total(energy_j), total(energy_std_j)
    FROM sounding WHERE run = :run
    GROUP BY power_source, airtime_source, direction, agent
    ORDER BY power_source, airtime_source, direction, agent"""


def energy_parts(
    connection: sqlite3.Connection, values: dict[str, Any], *, pilots: bool
) -> tuple[EnergyPart, ...]:
    """Split the energy of a run's steps into its parts, those that are 0 left out.

    Parameters
    ----------
    connection : sqlite3.Connection
    values : dict
        Those of ``CHOSEN``.
    pilots : bool
        Whether pilot exchanges count, which belong to no step.
    """
    found: dict[tuple[Use, Owner, Source, str], EnergyPart] = {}
    rows = _burst_parts(connection.execute(_BURSTS.replace("CHOSEN", CHOSEN), values))
    for part in rows:
        _add(found, part)
    if pilots:
        for row in connection.execute(_PILOTS, values):
            power, airtime, direction, agent, energy_j, std_j = row
            source = weakest(Source(power), Source(airtime))
            _add(found, _radiated(Use.PILOTS, source, direction, agent, energy_j, std_j))
    uses = list(Use)
    ordered = sorted(found.values(), key=lambda p: (uses.index(p.use), p.owner, p.source))
    return tuple(part for part in ordered if part.energy_j > 0.0)


def _burst_parts(rows: Iterable[tuple[Any, ...]]) -> Iterator[EnergyPart]:
    for power, airtime, direction, agent, *energies in rows:
        vectors_j, vectors_std, control_j, control_std, tx_j, rx_j = energies
        source = weakest(Source(power), Source(airtime))
        use = Use.UPLINK if direction == "up" else Use.ANSWERS
        yield _radiated(use, source, direction, agent, vectors_j, vectors_std)
        yield _radiated(Use.CONTROL, source, direction, agent, control_j, control_std)
        up = direction == "up"
        ends = ((Use.CIRCUIT_TX, up, tx_j), (Use.CIRCUIT_RX, not up, rx_j))
        for circuit, users, energy_j in ends:
            yield EnergyPart(
                use=circuit,
                owner=Owner.USER if users else Owner.HELPERS,
                source=Source.MODELLED,
                direction=direction,
                energy_j=energy_j,
                std_j={},
            )


def _radiated(
    use: Use, source: Source, direction: str, agent: str, energy_j: float, std_j: float
) -> EnergyPart:
    up = direction == "up"
    return EnergyPart(
        use=use,
        owner=Owner.USER if up else Owner.HELPERS,
        source=source,
        direction=direction,
        energy_j=energy_j,
        std_j={USER if up else agent: std_j},
    )


def _add(found: dict[tuple[Use, Owner, Source, str], EnergyPart], part: EnergyPart) -> None:
    key = (part.use, part.owner, part.source, part.direction)
    if key not in found:
        found[key] = part
        return
    std_j = dict(found[key].std_j)
    for unit, value in part.std_j.items():
        std_j[unit] = std_j.get(unit, 0.0) + value
    found[key] = EnergyPart(
        use=part.use,
        owner=part.owner,
        source=part.source,
        direction=part.direction,
        energy_j=found[key].energy_j + part.energy_j,
        std_j=std_j,
    )
