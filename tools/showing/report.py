"""Rebuild the report of a run from what its folder holds."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siftmoe.tools.showing.page import Section, html_figures, html_table, write_page

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from siftmoe.tools.results.policies import PolicyResult
    from siftmoe.tools.results.soundings import LinkHistory

SUMMARY = "rebuild the report of a run from its ledger"

CONFIG_FILE = "config.json"
REPORT_FILE = "report.html"
FIGURES = "figures"

#: Metrics of the table and the figures; all others are in the scores file.
SHOWN_METRICS = ("accuracy", "perplexity", "next_token_accuracy", "rouge_l")

_WIDTHS = "widths.svg"
_CAPTIONS = {
    _WIDTHS: "In how many bits an entry vectors went to helpers, over the channel's gain.",
    "energy.svg": "Radio energy per token over all layers.",
    "decisions.svg": "What became of the routed slots.",
    "latency.svg": "Latency per token with attention waiting for the slowest helper.",
    "links.svg": "Channel gains of the uplink bursts of the first policy, by helper.",
    "perplexity.svg": "Perplexity over uplink energy; bars are one standard error.",
    "accuracy.svg": "Accuracy over uplink energy; bars are one standard error.",
}
_LEGEND = (
    "Accuracy and perplexity with one standard error each; the policies share text and links, so "
    "their differences are known better than that. Energy per token is the radio's, over all "
    "layers; where its channel and its source come from stands beside it, ± is one standard "
    "uncertainty, calibration included. Bits are of an entry on the way to a helper. Latency and "
    "airtime are those of the transmissions as "
    "modelled; tokens/s is this machine's wall clock."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--out", type=Path, help="where to write (default: into that folder)")
    parser.epilog = "example: siftmoe report runs/loopback-1 --out report"


def run(args: argparse.Namespace) -> int:
    """Read the ledger and write the report."""
    from siftmoe.tools.results.policies import load_results

    results = load_results(args.run)
    config = json.loads((args.run / CONFIG_FILE).read_text(encoding="utf-8"))
    out = args.out or args.run
    out.mkdir(parents=True, exist_ok=True)
    print(write_report(out, results, config, run=args.run))
    return 0


def write_report(
    out: Path,
    results: Sequence[PolicyResult],
    config: Mapping[str, Any],
    *,
    run: Path | None = None,
) -> Path:
    """Write figures and one self-contained page.

    Parameters
    ----------
    out : Path
        Where to write.
    results : sequence of PolicyResult
    config : mapping
        What the run was asked to do; ``note`` says where its links come from.
    run : Path or None
        Folder of the run, if it is another one.

    Returns
    -------
    Path
        The page.
    """
    from siftmoe.tools.plotting.mix import draw_mix
    from siftmoe.tools.plotting.run import figures
    from siftmoe.tools.plotting.sounding import sounding_figures
    from siftmoe.tools.results.soundings import load_soundings
    from siftmoe.tools.results.width_mix import by_width

    drawn = figures(results)
    mixed = {r.policy: r.mix for r in results if len(by_width(r.mix)) > 1}
    if (widths := draw_mix(mixed)) is not None:
        drawn[_WIDTHS] = widths.svg
    histories = load_soundings(run or out)
    sounded = sounding_figures(histories)
    (out / FIGURES).mkdir(exist_ok=True)
    for name, svg in (drawn | sounded).items():
        (out / FIGURES / name).write_text(svg, encoding="utf-8")
    path = out / REPORT_FILE
    answers = "\n".join(_answer(result, config) for result in results)
    write_page(
        path,
        title=f"siftmoe: {config.get('model', 'run')}",
        subtitle=str(config.get("started", "")),
        note=str(config.get("note", "")),
        about=str(config.get("operating_point", "")),
        sections=(
            Section("Policies", _policies(results)),
            Section("Energy by source", html_table(*source_rows(results))),
            Section("Figures", html_figures(drawn, _CAPTIONS)),
            *_links(histories, sounded),
            Section("Answers", answers),
        ),
        config=config,
    )
    return path


def _policies(results: Sequence[PolicyResult]) -> str:
    """Table of the policies, and what it must not go without."""
    said = "".join(f"<li>{html.escape(remark)}</li>" for remark in remarks(results))
    under = f"<ul>{said}</ul>" if said else ""
    return f"{html_table(*table_rows(results))}\n<p>{_LEGEND}</p>\n{under}"


def source_rows(results: Sequence[PolicyResult]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of what was on the air, by how its energy was obtained."""
    sources = sorted({source for result in results for source in result.energy_by_source})
    header = ["policy", *sources, "of it pilots"]
    rows = []
    for result in results:
        found = [result.energy_by_source.get(source, (0.0, 0.0)) for source in sources]
        pilots = si(result.sounding_j, "J")
        rows.append([result.policy, *(_energy(value, std) for value, std in found), pilots])
    return header, rows


def _links(histories: Sequence[LinkHistory], figures: Mapping[str, str]) -> list[Section]:
    """Section of the sounded links; none if nothing was sounded."""
    from siftmoe.tools.plotting.sounding import CAPTIONS
    from siftmoe.tools.results.soundings import history_rows

    if not histories:
        return []
    return [
        Section("Links", html_table(*history_rows(histories)) + html_figures(figures, CAPTIONS))
    ]


def table_rows(results: Sequence[PolicyResult]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the comparison, as text."""
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


def remarks(results: Sequence[PolicyResult]) -> list[str]:
    """Sentences that a table of these results must not go without."""
    found = [
        f"{result.policy}: {result.infeasible} selections could not keep their budget on the "
        f"helpers in reach; they took the least deviation there was."
        for result in results
        if result.infeasible
    ]
    found += [
        f"{result.policy}: {result.outage:.2%} of the slots sent missed their window; they are "
        f"skipped, and their energy is counted."
        for result in results
        if result.outage
    ]
    found += [f"{result.policy}: {line}" for result in results for line in _fault_lines(result)]
    found += [
        f"{result.policy}: {result.faulted} slots are skipped because the helper that was to serve "
        f"them failed and nobody took over."
        for result in results
        if result.faulted
    ]
    found += [
        f"{result.policy}: boards took {si(result.board_j_per_token, 'J')} per token, "
        f"{si(result.board_net_j_per_token, 'J')} of it more than idling."
        for result in results
        if result.board_j_per_token is not None and result.board_net_j_per_token is not None
    ]
    found += [
        f"{result.policy}: {result.aborted} steps broke off after {si(result.aborted_j, 'J')}, "
        f"which no figure contains."
        for result in results
        if result.aborted
    ]
    found += [
        f"{result.policy}: {result.attempts} earlier attempts were broken off after "
        f"{si(result.attempts_j, 'J')}, which no figure contains."
        for result in results
        if result.attempts
    ]
    found += [
        f"{result.policy}: deviation really made is {result.measured_over_bound:.2f} of the plans'."
        for result in results
        if result.measured_over_bound is not None
    ]
    return found


def _fault_lines(result: PolicyResult) -> list[str]:
    """One line for each helper or link that was missing."""
    lines = []
    for name in sorted({*result.faults, *result.lost}):
        parts = []
        if name in result.faults:
            count, reason = result.faults[name]
            parts.append(f"failed in {count} layers (first: {reason})")
        if name in result.lost:
            why = "" if parts else result.lost_why.get(name, "")
            parts.append(
                f"was left out of {result.lost[name]} selections" + f" ({why})" * bool(why)
            )
        lines.append(f"{name} {' and '.join(parts)}.")
    return lines


def _row(result: PolicyResult, metrics: Sequence[str]) -> list[str]:
    shares = "/".join(f"{100 * s:.0f}" for s in (result.kept, result.replaced, result.skipped))
    return [
        result.policy,
        *(_metric(result.metrics.get(name)) for name in metrics),
        _bits(result),
        _energy(result.uplink_j_per_token, result.uplink_std_j_per_token),
        si(result.downlink_j_per_token, "J"),
        "+".join(result.channel_origins),
        "+".join(result.energy_sources),
        si(result.latency_s_per_token, "s"),
        si(result.airtime_s_per_token, "s"),
        f"{result.tokens_per_s:.0f}",
        f"{shares} %",
    ]


def _bits(result: PolicyResult) -> str:
    """Bits of an entry on the way to helpers: the one width, or their mean and range."""
    from siftmoe.tools.results.width_mix import by_width, mean_bits

    widths = list(by_width(result.mix))
    if len(widths) < 2:
        return str(widths[0]) if widths else "-"
    return f"{mean_bits(result.mix):.1f} ({widths[0]} to {widths[-1]})"


def _energy(value: float, std: float) -> str:
    """Energy, with its uncertainty where it has one."""
    relative = f" ± {100 * std / value:.0f} %" if std > 0.0 and value > 0.0 else ""
    return si(value, "J") + relative


def _metric(pair: tuple[float, float] | None) -> str:
    if pair is None:
        return "-"
    value, error = pair
    digits = 3 if value < 1 else 2
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def si(value: float, unit: str) -> str:
    """Three digits with an SI prefix."""
    if value == 0.0:
        return f"0 {unit}"
    for exponent, prefix in ((0, ""), (-3, "m"), (-6, "µ"), (-9, "n"), (-12, "p"), (-15, "f")):
        if abs(value) >= 0.9995 * 10.0**exponent:
            return f"{value / 10.0**exponent:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def _answer(result: PolicyResult, config: Mapping[str, Any]) -> str:
    text = f"<b>{html.escape(str(config.get('prompt', '')))}</b>{html.escape(result.answer)}"
    return f"<p>{html.escape(result.policy)}</p><pre>{text}</pre>"
