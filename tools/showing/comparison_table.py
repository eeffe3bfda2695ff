"""Header and rows of the tables that compare policies: figures, and energy by source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siftmoe.tools.showing.quantities import energy_text, si

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siftmoe.tools.results.policies import PolicyResult

#: Metrics of the table and the figures; all others are in the scores file.
SHOWN_METRICS = ("accuracy", "perplexity", "next_token_accuracy", "rouge_l")


def table_rows(results: Sequence[PolicyResult]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the comparison, as text."""
    metrics = [name for name in SHOWN_METRICS if any(name in r.metrics for r in results)]
    header = [
        "policy",
        *(name.replace("_", " ") for name in metrics),
        "bits",
        "uplink / token",
        "downlink / token",
        "channel",
        "source",
        "latency / token",
        "airtime / token",
        "tokens/s",
        "keep/repl./skip",
    ]
    return header, [_row(result, metrics) for result in results]


def source_rows(results: Sequence[PolicyResult]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the energy on the air, by source."""
    sources = sorted({source for result in results for source in result.energy_by_source})
    header = ["policy", *sources, "of it pilots"]
    rows = []
    for result in results:
        found = [result.energy_by_source.get(source, (0.0, 0.0)) for source in sources]
        pilots = si(result.sounding_j, "J")
        rows.append([result.policy, *(energy_text(value, std) for value, std in found), pilots])
    return header, rows


def _row(result: PolicyResult, metrics: Sequence[str]) -> list[str]:
    shares = "/".join(f"{100 * s:.0f}" for s in (result.kept, result.replaced, result.skipped))
    return [
        result.policy,
        *(_metric(result.metrics.get(name)) for name in metrics),
        _bits(result),
        energy_text(result.uplink_j_per_token, result.uplink_std_j_per_token),
        si(result.downlink_j_per_token, "J"),
        "+".join(result.channel_origins),
        "+".join(result.energy_sources),
        si(result.latency_s_per_token, "s"),
        si(result.airtime_s_per_token, "s"),
        f"{result.tokens_per_s:.0f}",
        f"{shares} %",
    ]


def _bits(result: PolicyResult) -> str:
    """Return the bits of an entry on the uplink: the width, or mean and range of several."""
    from siftmoe.tools.results.width_mix import by_width, mean_bits

    widths = list(by_width(result.mix))
    if len(widths) < 2:
        return str(widths[0]) if widths else "-"
    return f"{mean_bits(result.mix):.1f} ({widths[0]} to {widths[-1]})"


def _metric(pair: tuple[float, float] | None) -> str:
    if pair is None:
        return "-"
    value, error = pair
    digits = 3 if value < 1 else 2
    return f"{value:.{digits}f} ± {error:.{digits}f}"
