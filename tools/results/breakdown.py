"""Breaks a run down by layer and by helper: decisions and radiated energy."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

from siftmoe.coordinator.ledger.rows import SelectionRow, StepRow, TransmissionRow
from siftmoe.coordinator.links.states import Direction

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from siftmoe.coordinator.ledger.store import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerShares:
    """Decisions and energy of one expert layer.

    Parameters
    ----------
    kept, replaced, skipped : float
        Shares of the layer's slots; they add up to 1.
    energy_j : float, J per token
        Radiated in both directions.
    """

    kept: float
    replaced: float
    skipped: float
    energy_j: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """What a run decided and radiated, by layer and by helper.

    Parameters
    ----------
    layers : tuple of LayerShares
        Ascending; empty without a completed step.
    helpers : dict
        Name of every helper that was sent to, to (uplink, answers), J per token.
    """

    layers: tuple[LayerShares, ...] = ()
    helpers: dict[str, tuple[float, float]] = field(default_factory=dict)


def breakdown_of(ledger: Ledger, run: int | None = None) -> Breakdown:
    """Sum up the completed steps of a run, by default the one that the ledger writes."""
    tokens = {row.step: row.tokens for row in ledger.rows(StepRow, run=run) if not row.aborted}
    if not sum(tokens.values()):
        return Breakdown()
    sent = [row for row in ledger.rows(TransmissionRow, run=run) if row.step in tokens]
    selections = (row for row in ledger.rows(SelectionRow, run=run) if row.step in tokens)
    total = sum(tokens.values())
    return Breakdown(layers=_by_layer(selections, sent, total), helpers=_by_helper(sent, total))


def mean_breakdown(parts: Sequence[Breakdown]) -> Breakdown:
    """Average the breakdowns of several runs of one setting, a seed each.

    Raises
    ------
    ValueError
        If they differ in the number of layers.
    """
    if len({len(part.layers) for part in parts}) > 1:
        raise ValueError(f"runs of one setting have {[len(p.layers) for p in parts]} layers")
    names = ("kept", "replaced", "skipped", "energy_j")
    layers = tuple(
        LayerShares(**{name: fmean(getattr(one, name) for one in same) for name in names})
        for same in zip(*(part.layers for part in parts), strict=True)
    )
    totals: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for part in parts:
        for helper, energies in part.helpers.items():
            for i, energy_j in enumerate(energies):
                totals[helper][i] += energy_j / len(parts)
    return Breakdown(
        layers=layers, helpers={name: (up, down) for name, (up, down) in sorted(totals.items())}
    )


def _by_layer(
    selections: Iterable[SelectionRow], sent: Iterable[TransmissionRow], tokens: int
) -> tuple[LayerShares, ...]:
    counts: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    energy: dict[int, float] = defaultdict(float)
    for row in selections:
        for i, slots in enumerate((row.kept, row.replaced, row.skipped)):
            counts[row.layer][i] += slots
    for burst in sent:
        energy[burst.layer] += burst.energy_j
    found = []
    for layer, count in sorted(counts.items()):
        kept, replaced, skipped = (part / sum(count) for part in count)
        each_j = energy[layer] / tokens
        found.append(LayerShares(kept=kept, replaced=replaced, skipped=skipped, energy_j=each_j))
    return tuple(found)


def _by_helper(sent: Iterable[TransmissionRow], tokens: int) -> dict[str, tuple[float, float]]:
    energy: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row in sent:
        energy[row.agent][row.direction != Direction.UP] += row.energy_j
    return {name: (up / tokens, down / tokens) for name, (up, down) in sorted(energy.items())}
