"""Makes the tables that answer a study's question in a few lines."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from siftmoe.tools.experiments.studies.axes import LOSSES
from siftmoe.tools.experiments.studies.catalogue import STUDIES
from siftmoe.tools.experiments.table import REFERENCE, mean_of, more_energy_at, saved_at
from siftmoe.tools.showing.quantities import si

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from siftmoe.tools.experiments.table import Mean, Row

_RISE = "perplexity_rise"
_LATENCY = "latency"
_BOUND = "bound"
_EQUAL_QUALITY = ("quality", "bits", "broadcast")
_UPLINK_TOO = "broadcast"


@dataclass(frozen=True, slots=True)
class Summary:
    """A table of text."""

    title: str
    header: list[str]
    rows: list[list[str]]


def summary_of(study: str, rows: Sequence[Row]) -> list[Summary]:
    """Return the tables of a study, one or two per model and case."""
    places: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        places[row["model"], row["case"]].append(row)
    found = []
    for place, here in places.items():
        name = ", ".join(part for part in place if part)
        if study == _BOUND:
            found.append(_bound(name, here))
            continue
        if study in _EQUAL_QUALITY:
            found.append(_equal_quality(name, here))
        if study == _UPLINK_TOO:
            found.append(_equal_quality(name, here, uplink_alone=True))
        if baselines := STUDIES[study].baselines:
            found.append(_against(name, here, baselines))
        found.append(_points(name, here, latency=study == _LATENCY))
    return found


def _equal_quality(name: str, rows: Sequence[Row], *, uplink_alone: bool = False) -> Summary:
    """Return the energy saved at stated rises of the test perplexity: of both directions, or up."""
    scored = [row for row in rows if row[_RISE] is not None]
    if uplink_alone:
        scored = [{**row, "saved": row["saved_uplink"]} for row in scored]
    header = ["policy", *(f"saved at +{loss:.1%}" for loss in LOSSES)]
    lines = []
    for label, members in _by_curve(scored).items():
        if label == REFERENCE or all(row["stated_loss"] is not None for row in members):
            continue
        if all(row["knob"] is None for row in members):
            point = f"{_percent(_mean(members, 'saved'))} at +{_percent(_mean(members, _RISE))}"
            lines.append([f"{label}: {point}", *("" for _ in LOSSES)])
            continue
        lines.append([label, *(_percent(saved_at(members, loss)) for loss in LOSSES)])
    what = "uplink energy" if uplink_alone else "energy of both directions"
    return Summary(f"{name}: {what} saved at equal measured perplexity", header, lines)


def _against(name: str, rows: Sequence[Row], baselines: Sequence[str]) -> Summary:
    """Return energies over those of the best baseline at stated rises of the test perplexity."""
    scored = [row for row in rows if row[_RISE] is not None and row["stated_loss"] is None]
    curves = _by_curve(scored)
    base = {label: curves.pop(label) for label in baselines if label in curves}
    best = [_best(base, loss) for loss in LOSSES]
    lines = [["best of the baselines", *(label or "-" for label in best)]]
    for label, members in curves.items():
        if label != REFERENCE:
            ratios = [
                _percent(more_energy_at(members, base.get(other, ()), loss))
                for other, loss in zip(best, LOSSES, strict=True)
            ]
            lines.append([label, *ratios])
    header = ["policy", *(f"at +{loss:.1%}" for loss in LOSSES)]
    title = f"{name}: energy of both directions over the best baseline's, less one"
    return Summary(title, header, lines)


def _best(curves: Mapping[str, Sequence[Row]], loss: float) -> str:
    """Return the curve that saves most at a loss; empty if none reaches it."""
    saved = {label: saved_at(members, loss).value for label, members in curves.items()}
    known = {label: value for label, value in saved.items() if not math.isnan(value)}
    return max(known, key=known.__getitem__, default="")


def _points(name: str, rows: Sequence[Row], *, latency: bool) -> Summary:
    """Return every point of every curve: one setting, one policy, one knob value."""
    circuits = any(row["circuits"] for row in rows)
    mixed = any(row["uplink_bits"] != rows[0]["uplink_bits"] for row in rows)
    stated = any(row["stated_loss"] is not None for row in rows)
    varied = [key for key in _VARIED if len({row[key] for row in rows}) > 1]
    header = [
        "policy",
        "knob",
        *varied,
        *(("bits",) if mixed else ()),
        "perplexity",
        *(("validation rise",) if stated else ()),
        "rise",
        "next token",
        "choice",
        "both ways / token",
        "saved",
        "uplink saved",
        *(("latency, even", "latency, best") if latency else ()),
        *(_CIRCUITS if circuits else ()),
        "kept / repl. / skipped",
    ]
    lines = []
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        key = (row["curve"], row["stated_loss"], row["knob"], *(row[k] for k in varied))
        groups[key].append(row)
    for (label, loss, knob, *places), members in groups.items():
        text = [row for row in members if row["perplexity"] is not None]
        line = [str(label), _knob(loss, knob), *(f"{place}" for place in places)]
        if mixed:
            line += [_plain(_mean(members, "uplink_bits"), 1)]
        line += [_plain(_mean(text, "perplexity"), 2)]
        line += [_stated(members)] if stated else []
        line += [_percent(_mean(text, _RISE))]
        line += [_plain(_mean(members, "next_token_accuracy"), 3)]
        line += [_plain(_mean(members, "accuracy"), 3)]
        line += [si(_mean(text or members, "radio_j").value, "J")]
        line += [_percent(_mean(text or members, kind)) for kind in ("saved", "saved_uplink")]
        if latency:
            line += [si(_mean(text, f"latency_{kind}_s").value, "s") for kind in _BANDS]
        if circuits:
            line += [
                si(_mean(text, "total_j").value, "J"),
                *(_percent(_mean(text, kind)) for kind in ("saved_total", "radiated_share")),
                si(_mean(text, "airtime_s").value, "s"),
            ]
        shares = [_mean(text or members, kind).value for kind in ("kept", "replaced", "skipped")]
        lines.append([*line, "/".join(f"{100 * share:.0f}" for share in shares)])
    return Summary(f"{name}: every point", header, lines)


_VARIED = (
    "num_helpers",
    "bandwidth_hz",
    "deadline_s",
    "slots",
    "gain_floor",
    "distance_spread",
    "circuits",
)
_CIRCUITS = ("all / token", "saved of all", "radiated", "airtime")
_BANDS = ("uniform", "optimal")


def _bound(name: str, rows: Sequence[Row]) -> Summary:
    header = ["layer", "tolerance", "deviating", "within", "deviating within", "measured/bound"]
    groups: dict[tuple[str, float], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["curve"], row["knob"]].append(row)
    lines = [
        [
            label,
            f"{knob:g}",
            *(_percent(_mean(members, k)) for k in ("deviating", "within", "within_deviating")),
            _plain(_mean(members, "measured_over_bound"), 3),
        ]
        for (label, knob), members in groups.items()
    ]
    return Summary(f"{name}: deviation against its bound", header, lines)


def _by_curve(rows: Sequence[Row]) -> dict[str, list[Row]]:
    curves: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        curves[row["curve"]].append(row)
    return curves


def _mean(rows: Sequence[Row], column: str) -> Mean:
    return mean_of(row[column] for row in rows)


def _knob(loss: object, knob: object) -> str:
    if knob is None:
        return "-"
    text = f"{knob:.3g}"
    return text if loss is None else f"{text} (for +{loss:.1%})"


def _stated(members: Sequence[Row]) -> str:
    """Return the validation rise at which a knob was set, with its standard error."""
    row = members[0]
    if row["validation_loss"] is None:
        return "-"
    error = row["validation_error"]
    found = f"{100 * row['validation_loss']:.2f}"
    return f"{found} %" if error is None else f"{found} ± {100 * error:.2f} %"


def _percent(mean: Mean) -> str:
    if math.isnan(mean.value):
        return "-"
    if math.isinf(mean.half_width):
        return f"{100 * mean.value:.1f} %"
    return f"{100 * mean.value:.1f} ± {100 * mean.half_width:.1f} %"


def _plain(mean: Mean, digits: int) -> str:
    return "-" if math.isnan(mean.value) else f"{mean.value:.{digits}f}"
