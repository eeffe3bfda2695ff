"""Draws the figures of a run."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

mpl.use("svg")

import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from siftmoe.tools.results.policies import PolicyResult

    FloatArray = NDArray[np.float64]

#: Colour-blind safe (Okabe and Ito).
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
STYLE: dict[str, Any] = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.axisbelow": True,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "siftmoe",
}
#: Makes SVG files reproducible, without dates and web addresses.
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def figures(results: Sequence[PolicyResult]) -> dict[str, str]:
    """Draw every figure of a comparison.

    Returns
    -------
    dict
        File name (``*.svg``) to SVG text.
    """
    drawn = {
        "energy.svg": _draw(_energy, results),
        "decisions.svg": _draw(_decisions, results),
        "latency.svg": _draw(_latency, results),
        "links.svg": _draw(_links, results),
    }
    for metric in ("perplexity", "accuracy"):
        if any(metric in result.metrics for result in results):
            drawn[f"{metric}.svg"] = _draw(_trade_off, results, metric=metric)
    return drawn


def _draw(plot: Callable[..., None], results: Sequence[PolicyResult], **options: Any) -> str:
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5.2, 3.2))
        plot(axes, results, **options)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=NO_METADATA)
        plt.close(figure)
    return text.getvalue()


def _stacked(
    axes: Any, names: Sequence[str], parts: dict[str, FloatArray], *, horizontal: bool
) -> None:
    """Draw stacked bars."""
    place = np.arange(len(names))
    base = np.zeros(len(names))
    for colour, (label, values) in zip(COLOURS, parts.items(), strict=False):
        if horizontal:
            axes.barh(place, values, left=base, color=colour, label=label, height=0.6)
        else:
            axes.bar(place, values, bottom=base, color=colour, label=label, width=0.6)
        base = base + values
    if horizontal:
        axes.set_yticks(place, names)
        axes.invert_yaxis()
    else:
        axes.set_xticks(place, names, rotation=20 if len(names) > 4 else 0)
    axes.legend(frameon=False, ncols=len(parts), loc="lower left", bbox_to_anchor=(0.0, 1.0))


def _energy(axes: Any, results: Sequence[PolicyResult]) -> None:
    scale = 1e9
    parts = {
        "uplink": np.array([r.uplink_j_per_token for r in results]) * scale,
        "downlink": np.array([r.downlink_j_per_token for r in results]) * scale,
    }
    _stacked(axes, [r.policy for r in results], parts, horizontal=False)
    axes.set_ylabel("radio energy per token / nJ")


def _decisions(axes: Any, results: Sequence[PolicyResult]) -> None:
    parts = {
        "keep": np.array([r.kept for r in results]) * 100,
        "replace": np.array([r.replaced for r in results]) * 100,
        "skip": np.array([r.skipped for r in results]) * 100,
    }
    _stacked(axes, [r.policy for r in results], parts, horizontal=True)
    axes.set_xlabel("share of slots / %")
    axes.set_xlim(0, 100)


def _latency(axes: Any, results: Sequence[PolicyResult]) -> None:
    parts = {
        "airtime": np.array([r.airtime_s_per_token for r in results]) * 1e3,
        "helper compute": np.array([r.latency_s_per_token - r.airtime_s_per_token for r in results])
        * 1e3,
    }
    _stacked(axes, [r.policy for r in results], parts, horizontal=True)
    axes.set_xlabel("latency per token, virtual clock / ms")


def _trade_off(axes: Any, results: Sequence[PolicyResult], *, metric: str) -> None:
    for index, result in enumerate(results):
        if metric not in result.metrics:
            continue
        value, error = result.metrics[metric]
        axes.errorbar(
            result.uplink_j_per_token * 1e9,
            value,
            yerr=error,
            fmt="o",
            capsize=3,
            color=COLOURS[index % len(COLOURS)],
            label=result.policy,
        )
    axes.set_xlabel("uplink energy per token / nJ")
    axes.set_ylabel(metric)
    axes.set_xlim(left=0)
    axes.legend(frameon=False)


def _links(axes: Any, results: Sequence[PolicyResult]) -> None:
    """Draw the channel gains of every helper's bursts under the first policy."""
    gains = results[0].gains_by_agent
    names = list(gains)
    data = [10 * np.log10(np.asarray(gains[name])) for name in names]
    if any(len(values) for values in data):
        axes.boxplot(data, showfliers=False, medianprops={"color": COLOURS[3]})
        axes.set_xticks(np.arange(1, len(names) + 1), names, rotation=30, ha="right")
    axes.set_ylabel("channel gain of used links / dB")
