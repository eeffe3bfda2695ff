"""Tables of the energy on the air and of the boards, with uncertainties."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siftmoe.coordinator.ledger.parts import Owner
from siftmoe.tools.showing.quantities import counted, quantity

if TYPE_CHECKING:
    from siftmoe.coordinator.ledger.energy import Part, Quantity
    from siftmoe.coordinator.ledger.summary import Summary

#: Header and rows, for the terminal or a page.
Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


def air_table(summary: Summary) -> Table:
    """Return what a run radiated: a row per source, kind, direction; sums last."""
    rows: list[tuple[str, ...]] = []
    for part in summary.transmissions:
        bursts = counted(part.bursts, "burst")
        what = (f"tokens {part.direction}", bursts, f"{part.airtime_s:.4g} s")
        rows.append(_air_row(summary, part, what))
    for pilot in summary.soundings:
        number = f"{pilot.detected} of {pilot.exchanges} heard"
        what = (f"pilots {pilot.direction}", number, f"{pilot.airtime_s:.4g} s")
        rows.append(_air_row(summary, pilot, what))
    for source, energy in summary.energy_by_source.items():
        rows.append((source.value, "sum", "", "", *_energy(summary, energy)))
    return ("source", "what", "number", "airtime", "energy", "per token"), rows


def part_table(summary: Summary) -> Table:
    """Return the energies of a run's radio links: a row per use, battery and source; sums last."""
    rows: list[tuple[str, ...]] = [
        (part.source.value, part.use.value, part.owner.value, *_energy(summary, part.energy))
        for part in summary.parts
    ]
    for owner in Owner:
        energy = _energy(summary, summary.joule(owner=owner))
        rows.append(("all", "sum", owner.value, *energy))
    radiated = _energy(summary, summary.joule(radiated=True))
    rows.append(("all", "radiated", "both", *radiated))
    rows.append(("all", "sum", "both", *_energy(summary, summary.joule())))
    return ("source", "what", "battery", "energy", "per token"), rows


def board_table(summary: Summary) -> Table:
    """Return the energies of a run's boards, by agent; no rows without sensors."""
    rows: list[tuple[str, ...]] = []
    for board in summary.boards:
        what = (board.agent, board.rails, f"{board.duration_s:.4g} s")
        rows.append((*what, *_energy(summary, board.energy), *_energy(summary, board.net)))
    if len(summary.boards) > 1:
        gross, net = summary.board_energy(), summary.board_energy(net=True)
        rows.append(("sum", "", "", *_energy(summary, gross), *_energy(summary, net)))
    header = ("board", "rails", "time", "gross", "per token", "net of idle", "per token")
    return header, rows


def _air_row(summary: Summary, part: Part, what: tuple[str, ...]) -> tuple[str, ...]:
    return (part.source.value, *what, *_energy(summary, part.energy))


def _energy(summary: Summary, energy: Quantity) -> tuple[str, str]:
    """Return the energy, and the energy per token."""
    per_token = quantity(energy / summary.tokens, "J") if summary.tokens else "-"
    return quantity(energy, "J"), per_token
