"""Turns outcomes into rows: one per cell and task, with plain values in every column."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from scipy.stats import t as student

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from siftmoe.tools.experiments.cells.records import Outcome, TaskRecord

    Row = dict[str, Any]

#: Reference curve: every cell is compared with its cell of the same seed and setting.
REFERENCE = "topk"
CONFIDENCE = 0.95

#: Columns in which a cell and its reference agree.
_SETTING = (
    "num_helpers",
    "distance_m",
    "distance_spread",
    "distances_m",
    "deadline_per",
    "tx_power_limit_w",
    "bandwidth_hz",
    "deadline_s",
    "hidden_size",
    "fading",
    "coherence_time_s",
    "shared_window",
    "slots",
    "gain_floor",
    "circuits",
)
_METRICS = ("perplexity", "next_token_accuracy", "accuracy", "rouge_l")
_FIGURES = (
    "radio_j",
    "uplink_j",
    "uplink_shared_j",
    "total_j",
    "radiated_share",
    "downlink_j",
    "airtime_s",
    "latency_s",
    "latency_uniform_s",
    "latency_optimal_s",
    "kept",
    "replaced",
    "skipped",
    "infeasible",
    "outage",
    "uplink_bits",
)


def rows_of(outcomes: Iterable[Outcome]) -> list[Row]:
    """Turn outcomes into rows, each compared with its reference.

    Returns
    -------
    list of dict
        ``relative`` is the radiated energy of both directions over the reference's, ``saved`` the
        share of it that is not spent,
        ``saved_uplink`` that of its uplink alone, ``perplexity_rise`` relative,
        ``accuracy_change`` and ``next_token_accuracy_change`` absolute; empty where the study has
        no reference on that seed and setting.
    """
    rows = [
        row for outcome in outcomes for record in outcome.records for row in _rows(outcome, record)
    ]
    reference = {_place(row): row for row in rows if row["curve"] == REFERENCE}
    for row in rows:
        _compare(row, reference.get(_place(row)))
    return rows


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write rows with a header; None becomes an empty field."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


@dataclass(frozen=True, slots=True)
class Mean:
    """Mean over seeds with the half width of its 95 % confidence interval (Student's t)."""

    value: float
    half_width: float
    count: int


def mean_of(values: Iterable[float | None]) -> Mean:
    """Average the values; NaN without values, an infinite interval with one."""
    known = np.array([v for v in values if v is not None and not math.isnan(v)])
    count = len(known)
    if count == 0:
        return Mean(math.nan, math.nan, 0)
    if count == 1:
        return Mean(float(known[0]), math.inf, 1)
    half = float(student.ppf(0.5 + CONFIDENCE / 2, count - 1) * known.std(ddof=1) / count**0.5)
    return Mean(float(known.mean()), half, count)


def saved_at(rows: Sequence[Row], rise: float) -> Mean:
    """Energy saved by one curve where its perplexity has risen by a share, over the seeds.

    Each seed's points are interpolated linearly, starting from the reference at (0, 0); a seed
    whose curve ends below that rise is left out.
    """
    return mean_of(_saved_by_seed(rows, rise).values())


def more_energy_at(rows: Sequence[Row], baseline: Sequence[Row], rise: float) -> Mean:
    """Energy of one curve over another's where either's perplexity has risen by a share, less one.

    The mean is over the seeds for which both curves reach that rise; see `saved_at`.
    """
    ours, theirs = _saved_by_seed(rows, rise), _saved_by_seed(baseline, rise)
    return mean_of(
        (1.0 - saved) / (1.0 - theirs[seed]) - 1.0 for seed, saved in ours.items() if seed in theirs
    )


def _saved_by_seed(rows: Sequence[Row], rise: float) -> dict[int, float]:
    """Energy saved at a rise of perplexity, for the seeds whose curve reaches it."""
    seeds: dict[int, list[tuple[float, float]]] = defaultdict(lambda: [(0.0, 0.0)])
    for row in rows:
        if row["perplexity_rise"] is not None:
            seeds[row["seed"]].append((row["perplexity_rise"], row["saved"]))
    found = {}
    for seed, points in seeds.items():
        x, y = np.array(sorted(points)).T
        if x[-1] >= rise:
            found[seed] = float(np.interp(rise, x, y))
    return found


def _row(outcome: Outcome, record: TaskRecord) -> Row:
    cell = outcome.cell
    row: Row = {"model": cell.model, "case": cell.case, "task": record.task}
    row |= {"curve": cell.curve}
    row |= {"policy": outcome.policy, "seed": cell.seed, "knob": outcome.value}
    row |= {"stated_loss": cell.loss, "validation_loss": outcome.validation_loss}
    row |= {"validation_error": outcome.validation_error, "trials": outcome.trials}
    row |= {"validation_upper": outcome.validation_upper}
    row |= msgspec.structs.asdict(cell.setting)
    row |= {"tokens": record.tokens, "channel_states": record.channel_states}
    row |= {name: getattr(record, name) for name in _FIGURES}
    for name in _METRICS:
        value, error = record.metrics.get(name, (None, None))
        row |= {name: value, f"{name}_se": error}
    return row | {"wall_s": record.wall_s}


def _rows(outcome: Outcome, record: TaskRecord) -> list[Row]:
    """Return one row; for an audit one row per layer, with the layer as curve."""
    row = _row(outcome, record)
    if not record.layers:
        return [row]
    return [
        {**row, "curve": f"layer {index}", **_audited(layer)}
        for index, layer in enumerate(record.layers)
    ]


def _audited(layer: dict[str, float]) -> Row:
    """Return the shares of tokens within their bound: of all, and of those planned to deviate."""
    tokens, exact, within = layer["tokens"], layer["exact"], layer["within"]
    deviating = tokens - exact
    return {
        "within": within / tokens if tokens else None,
        "within_deviating": (within - exact) / deviating if deviating else None,
        "deviating": deviating / tokens if tokens else None,
        "measured_over_bound": layer["measured"] / layer["bound"] if layer["bound"] else None,
    }


def _place(row: Row) -> tuple[Any, ...]:
    return (row["model"], row["task"], row["seed"], *(row[name] for name in _SETTING))


def _compare(row: Row, reference: Row | None) -> None:
    row |= dict.fromkeys(("relative", "saved", "saved_uplink", "saved_total", "perplexity_rise"))
    row |= dict.fromkeys(("accuracy_change", "next_token_accuracy_change"))
    if reference is None:
        return
    row["relative"] = row["radio_j"] / reference["radio_j"]
    row["saved"] = 1.0 - row["relative"]
    row["saved_uplink"] = 1.0 - row["uplink_j"] / reference["uplink_j"]
    if row["total_j"] is not None and reference["total_j"]:
        row["saved_total"] = 1.0 - row["total_j"] / reference["total_j"]
    if row["perplexity"] is not None:
        row["perplexity_rise"] = row["perplexity"] / reference["perplexity"] - 1.0
    for name in ("accuracy", "next_token_accuracy"):
        if row[name] is not None:
            row[f"{name}_change"] = row[name] - reference[name]
