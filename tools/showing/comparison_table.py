"""Header and rows of the tables that compare policies: figures, and energy by source.

The change of perplexity and the saved energy are against plain Top-K on the same links and text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from siftmoe.tools.results.width_mix import by_width, mean_width
from siftmoe.tools.showing.joule import counted_in
from siftmoe.tools.showing.quantities import energy_text, si
from siftmoe.tools.terminal.tables import two_lines, without_constants

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from siftmoe.tools.results.policies import PolicyResult

#: Metrics of the table and the figures; all others are in the scores file.
SHOWN_METRICS = ("accuracy", "perplexity", "next_token_accuracy", "rouge_l")

REFERENCE = "topk"
_PERPLEXITY = "perplexity"
_POLICY, _CHANGE, _ENERGY, _SAVED = "policy", "change", "energy / token", "saved"
_BITS, _CHANNEL, _SOURCE = "bits", "channel", "source"
_SHARES = "kept / repl. / skipped"
#: Columns of the table on a terminal, beside the metrics; the others are in the report.
_BRIEF = (_POLICY, _CHANGE, _BITS, _ENERGY, _SAVED, _CHANNEL, _SOURCE, _SHARES)
_BRIEF_METRICS = ("accuracy", "perplexity", "rouge l")
_FOLDED_IF_CONSTANT = (_BITS, _CHANNEL, _SOURCE)


def legend(results: Sequence[PolicyResult]) -> str:
    """Say what the columns are shares of, and what ± means."""
    return (
        f"{_CHANGE} of perplexity and {_SAVED} energy: against {REFERENCE}. Energy is that of "
        f"{counted_in(results)}. Bits are of an entry up, and back where it differs. Metrics ± one "
        "standard error, energies ± one standard uncertainty."
    )


def table_rows(results: Sequence[PolicyResult]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the comparison, as text."""
    metrics = [name for name in SHOWN_METRICS if any(name in r.metrics for r in results)]
    rows = [_cells(result, metrics, reference_of(results)) for result in results]
    return list(rows[0]), [list(row.values()) for row in rows]


def brief_rows(results: Sequence[PolicyResult]) -> tuple[list[str], list[list[str]], str]:
    """Return header, rows and caption of the comparison for a terminal of 80 columns.

    Uncertainties stand below their values. Columns that are the same in every row are in the
    caption.
    """
    header, rows = table_rows(results)
    shown = [n for n, name in enumerate(header) if name in (*_BRIEF, *_BRIEF_METRICS)]
    header, rows, caption = without_constants(
        [header[n] for n in shown],
        [[two_lines(row[n]) for n in shown] for row in rows],
        _FOLDED_IF_CONSTANT,
    )
    return header, rows, caption


def reference_of(results: Sequence[PolicyResult]) -> PolicyResult | None:
    """Return the result that others are compared with; None if there is none."""
    return next((result for result in results if result.policy == REFERENCE), None)


def perplexity_change(result: PolicyResult, reference: PolicyResult | None) -> float | None:
    """Return the relative change of perplexity; None where it is not known."""
    if reference is None or not {_PERPLEXITY} <= {*result.metrics} & {*reference.metrics}:
        return None
    return result.metrics[_PERPLEXITY][0] / reference.metrics[_PERPLEXITY][0] - 1.0


def energy_saved(result: PolicyResult, reference: PolicyResult | None) -> float | None:
    """Return the saved share of the energy of both directions; None where it is not known."""
    if reference is None or not reference.energy_j_per_token > 0.0:
        return None
    return 1.0 - result.energy_j_per_token / reference.energy_j_per_token


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


def _cells(
    result: PolicyResult, metrics: Sequence[str], reference: PolicyResult | None
) -> dict[str, str]:
    cells = {_POLICY: result.policy}
    for name in metrics:
        cells[name.replace("_", " ")] = _metric(result.metrics.get(name))
        if name == _PERPLEXITY and reference is not None:
            cells[_CHANGE] = _percent(result, reference, perplexity_change, "{:+.1f} %")
    cells |= {
        _BITS: _bits(result),
        _ENERGY: energy_text(result.energy_j_per_token, result.energy_std_j_per_token),
    }
    if reference is not None:
        cells[_SAVED] = _percent(result, reference, energy_saved, "{:.0f} %")
    shares = "/".join(f"{100 * s:.0f}" for s in (result.kept, result.replaced, result.skipped))
    return cells | {
        "uplink / token": energy_text(result.uplink_j_per_token, result.uplink_std_j_per_token),
        "answers / token": si(result.downlink_j_per_token, "J"),
        _CHANNEL: "+".join(result.channel_origins),
        _SOURCE: "+".join(result.energy_sources),
        "latency / token": si(result.latency_s_per_token, "s"),
        "airtime / token": si(result.airtime_s_per_token, "s"),
        "tokens/s": f"{result.tokens_per_s:.0f}",
        _SHARES: f"{shares} %",
    }


def _percent(
    result: PolicyResult,
    reference: PolicyResult,
    share: Callable[[PolicyResult, PolicyResult | None], float | None],
    form: str,
) -> str:
    """Format a share against the reference, which has none against itself."""
    found = None if result is reference else share(result, reference)
    return "" if found is None else form.format(100.0 * found)


def _bits(result: PolicyResult) -> str:
    """Return the bits of an entry up, and back where it differs: widths, or means of several."""
    up, back = by_width(result.mix), dict(result.reply_mix)
    if up.keys() == back.keys() and len(up) < 2:
        back = {}
    texts = [_width(counts) for counts in (up, back) if counts]
    return " / ".join(texts) or "-"


def _width(counts: Mapping[int, int]) -> str:
    return f"{mean_width(counts):.1f}" if len(counts) > 1 else str(next(iter(counts)))


def _metric(pair: tuple[float, float] | None) -> str:
    if pair is None:
        return "-"
    value, error = pair
    digits = 3 if value < 1 else 2
    return f"{value:.{digits}f} ± {error:.{digits}f}"
