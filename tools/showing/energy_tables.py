"""Tables of the energy on the air and of the boards, with uncertainties."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siftmoe.tools.showing.quantities import quantity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siftmoe.coordinator.ledger.energy import Part, Quantity
    from siftmoe.coordinator.ledger.summary import Summary

#: Header and rows, for the terminal or a page.
Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


def air_table(summaries: Sequence[Summary]) -> Table:
    """Return the energies on the air: a row per run, source, kind, direction; sums by source."""
    rows: list[tuple[str, ...]] = []
    for summary in summaries:
        for part in summary.transmissions:
            what = (f"tokens {part.direction}", f"{part.bursts} bursts", f"{part.airtime_s:.4g} s")
            rows.append((*_run(summary, part), *what, *_energy(summary, part.energy)))
        for pilot in summary.soundings:
            number = f"{pilot.detected} of {pilot.exchanges} heard"
            what = (f"pilots {pilot.direction}", number, f"{pilot.airtime_s:.4g} s")
            rows.append((*_run(summary, pilot), *what, *_energy(summary, pilot.energy)))
        for source, energy in summary.energy_by_source.items():
            what = ("sum", "", "")
            rows.append((summary.label, source.value, *what, *_energy(summary, energy)))
    return ("run", "source", "what", "number", "airtime", "energy", "per token"), rows


def board_table(summaries: Sequence[Summary]) -> Table:
    """Return the boards' energies, by run and agent; no rows without sensors."""
    rows: list[tuple[str, ...]] = []
    for summary in summaries:
        for board in summary.boards:
            what = (summary.label, board.agent, board.rails, f"{board.duration_s:.4g} s")
            rows.append((*what, *_energy(summary, board.energy), *_energy(summary, board.net)))
        if len(summary.boards) > 1:
            gross, net = summary.board_energy(), summary.board_energy(net=True)
            what = (summary.label, "sum", "", "")
            rows.append((*what, *_energy(summary, gross), *_energy(summary, net)))
    header = ("run", "board", "rails", "time", "gross", "per token", "net of idle", "per token")
    return header, rows


def _run(summary: Summary, part: Part) -> tuple[str, str]:
    return summary.label, part.source.value


def _energy(summary: Summary, energy: Quantity) -> tuple[str, str]:
    """Return the energy, and the energy per token."""
    per_token = quantity(energy / summary.tokens, "J") if summary.tokens else "-"
    return quantity(energy, "J"), per_token
