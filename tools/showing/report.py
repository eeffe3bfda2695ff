"""Writes the report of a run: figures and one self-contained page."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siftmoe.tools.showing.comparison_table import REFERENCE, source_rows, table_rows
from siftmoe.tools.showing.joule import counted_in, part_rows
from siftmoe.tools.showing.page import Section, html_figures, html_table, write_page
from siftmoe.tools.showing.remarks import remarks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from siftmoe.tools.results.policies import PolicyResult
    from siftmoe.tools.results.soundings import LinkHistory

CONFIG_FILE = "config.json"
REPORT_FILE = "report.html"
FIGURES = "figures"

_WIDTHS = "widths.svg"
_LAYERS = "layers.svg"
_HELPERS = "helpers.svg"
_CAPTIONS = {
    _WIDTHS: "Bits of an entry of uplink vectors, over the channel gain.",
    _LAYERS: "Routed slots by decision in each layer, and radiated energy per token of the layer.",
    _HELPERS: "Radiated energy per token of each helper's link, to it and back.",
    "energy.svg": "Energy of the radio links per token over all layers, by part.",
    "decisions.svg": "Routed slots by decision.",
    "latency.svg": "Latency per token with attention waiting for the slowest helper.",
    "links.svg": "Channel gains of the uplink bursts of the first policy, by helper.",
    "perplexity.svg": "Perplexity over energy of both directions; bars are one standard error.",
    "accuracy.svg": "Accuracy over energy of both directions; bars are one standard error.",
}
_LEGEND = (
    "Accuracy and perplexity with one standard error each; the policies share text and links, so "
    "their differences are known better than that. The change of perplexity and the saved energy "
    "are against {reference}. Energy per token is that of {counted}, over all layers; the source "
    "of its channel and of its value are beside it, ± is one standard uncertainty, calibration "
    "included. Bits are of an entry up, and back where it differs. Latency and airtime are those "
    "of the transmissions as modelled; tokens/s is this machine's wall clock."
)


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
        Configuration of the run; ``note`` says where its links come from.
    run : Path or None
        Folder of the run, if it differs from ``out``.

    Returns
    -------
    Path
        The page.
    """
    from siftmoe.tools.plotting.breakdown import draw_helpers, draw_layers
    from siftmoe.tools.plotting.mix import draw_mix
    from siftmoe.tools.plotting.run import figures
    from siftmoe.tools.plotting.sounding import sounding_figures
    from siftmoe.tools.results.soundings import load_soundings
    from siftmoe.tools.results.width_mix import by_width

    drawn = figures(results)
    parts = {result.policy: result.breakdown for result in results}
    for name, figure in ((_LAYERS, draw_layers(parts)), (_HELPERS, draw_helpers(parts))):
        if figure is not None:
            drawn[name] = figure.svg
    mixed = {r.policy: r.mix for r in results if len(by_width(r.mix)) > 1}
    if (widths := draw_mix(mixed)) is not None:
        drawn[_WIDTHS] = widths.svg
    histories = load_soundings(run or out)
    sounded = sounding_figures(histories, sample_rate_hz=_sample_rate_hz(config))
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
        about=_about(config),
        sections=(
            Section("Policies", _policies(results)),
            Section("Energy by part", html_table(*part_rows(results))),
            Section("Energy by source", html_table(*source_rows(results))),
            Section("Figures", html_figures(drawn, _CAPTIONS)),
            *_links(histories, sounded),
            Section("Answers", answers),
        ),
        config=config,
    )
    return path


def _about(config: Mapping[str, Any]) -> str:
    """Say what the air of the run was; older runs recorded less."""
    warning = config.get("windows", {}).get("warning", "")
    parts = (config.get("operating_point", ""), config.get("channel", ""), warning)
    return " ".join(str(part) for part in parts if part)


def _sample_rate_hz(config: Mapping[str, Any]) -> float | None:
    """Return the sample rate of the pilots; None for a run that did not record it."""
    rate_hz: float | None = config.get("job", {}).get("site", {}).get("sample_rate_hz")
    return rate_hz


def _policies(results: Sequence[PolicyResult]) -> str:
    """Return the table of policies with its legend and remarks."""
    said = "".join(f"<li>{html.escape(remark)}</li>" for remark in remarks(results))
    under = f"<ul>{said}</ul>" if said else ""
    legend = html.escape(_LEGEND.format(reference=REFERENCE, counted=counted_in(results)))
    return f"{html_table(*table_rows(results))}\n<p>{legend}</p>\n{under}"


def _links(histories: Sequence[LinkHistory], figures: Mapping[str, str]) -> list[Section]:
    """Return the section of the sounded links; empty if nothing was sounded."""
    from siftmoe.tools.plotting.sounding import CAPTIONS
    from siftmoe.tools.results.soundings import history_rows

    if not histories:
        return []
    return [
        Section("Links", html_table(*history_rows(histories)) + html_figures(figures, CAPTIONS))
    ]


def _answer(result: PolicyResult, config: Mapping[str, Any]) -> str:
    text = f"<b>{html.escape(str(config.get('prompt', '')))}</b>{html.escape(result.answer)}"
    return f"<p>{html.escape(result.policy)}</p><pre>{text}</pre>"
