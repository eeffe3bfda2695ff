"""What a deployment has sent, decided and spent: text in a terminal, a table in a notebook."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

from siftmoe.tools.showing.quantities import counted, si

if TYPE_CHECKING:
    from siftmoe.coordinator.ledger.summary import Summary


@dataclass(frozen=True, slots=True)
class Overview:
    """Sums of a ledger in words.

    Parameters
    ----------
    policy : str
    rows : tuple of (str, str)
        What it is, and its value with unit.
    summary : Summary
        The figures themselves.
    """

    policy: str
    rows: tuple[tuple[str, str], ...]
    summary: Summary

    @classmethod
    def of(cls, summary: Summary, *, policy: str) -> Overview:
        """Put the sums of a run into words."""
        if not summary.tokens:
            return cls(policy, (("tokens", "none yet"),), summary)
        shares = "/".join(f"{100 * share:.0f}" for share in summary.shares.values())
        sources = "+".join(source.value for source in summary.sources)
        up, down = (summary.energy_per_token(direction=way).value for way in ("up", "down"))
        joule = summary.joule_per_token().value
        rows = [
            ("tokens", str(summary.tokens)),
            ("energy per token", f"{si(joule, 'J')}, {summary.radiated_share:.0%} radiated"),
            ("uplink energy per token", f"{si(up, 'J')}, {sources}"),
            ("downlink energy per token", f"{si(down, 'J')}, {sources}"),
            ("slots kept / replaced / skipped", f"{shares} %"),
            ("airtime per token", si(summary.airtime_per_token_s, "s")),
            ("latency per token", si(summary.latency_per_token.total_s, "s")),
        ]
        if summary.faulted:
            rows.append(("slots lost to failed helpers", str(summary.faulted)))
        rows += [
            ("left out", f"{why}: {counted(count, 'selection')}")
            for why, count in _excluded(summary)
        ]
        return cls(policy, tuple(rows), summary)

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.rows)
        return "\n".join(
            [self.policy, *(f"  {name:<{width}}  {value}" for name, value in self.rows)]
        )

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>"
            for name, value in self.rows
        )
        return f"<table><caption>{html.escape(self.policy)}</caption>{cells}</table>"


def _excluded(summary: Summary) -> list[tuple[str, int]]:
    return [(why, count) for why, count in summary.excluded.items() if why]
