"""Draws the figures of a run."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

mpl.use("svg")

import matplotlib.pyplot as plt

from siftmoe.coordinator.ledger.parts import Use

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
        # Room for names that are broken into lines, and for many policies.
        lines = sum(in_lines(result.policy).count("\n") + 1 for result in results)
        figure, axes = plt.subplots(figsize=(5.2, max(3.2, 1.2 + 0.25 * lines)))
        plot(axes, results, **options)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=NO_METADATA)
        plt.close(figure)
    return text.getvalue()


def in_lines(policy: str, width: int = 24) -> str:
    """Break the name of a policy at its colons and dots, so that it leaves room for a figure."""
    lines = [""]
    for part in re.findall(rf"[^:.]{{1,{width}}}[:.]?", policy):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _stacked(axes: Any, names: Sequence[str], parts: dict[str, FloatArray]) -> None:
    """Draw stacked bars, one line of them for each name."""
    place = np.arange(len(names))
    base = np.zeros(len(names))
    for colour, (label, values) in zip(COLOURS, parts.items(), strict=False):
        axes.barh(place, values, left=base, color=colour, label=label, height=0.6)
        base = base + values
    axes.set_yticks(place, [in_lines(name) for name in names])
    axes.invert_yaxis()
    axes.legend(frameon=False, ncols=len(parts), loc="lower left", bbox_to_anchor=(0.0, 1.0))


def _energy(axes: Any, results: Sequence[PolicyResult]) -> None:
    """Draw the parts of the energy, owners together; a part that nobody has is left out."""
    parts = {
        label: np.array([_of_uses(result, uses) for result in results]) * 1e9
        for label, uses in _PARTS.items()
    }
    shown = {label: values for label, values in parts.items() if values.any()}
    _stacked(axes, [r.policy for r in results], shown)
    axes.set_xlabel("energy of the radio links per token / nJ")


#: Parts of the energy as drawn, and the uses they consist of.
_PARTS = {
    "uplink": (Use.UPLINK,),
    "answers": (Use.ANSWERS,),
    "control": (Use.CONTROL,),
    "pilots": (Use.PILOTS,),
    "circuits": (Use.CIRCUIT_TX, Use.CIRCUIT_RX),
}


def _of_uses(result: PolicyResult, uses: Sequence[Use]) -> float:
    names = {use.value for use in uses}
    return sum(value for (use, _), value in result.parts_j_per_token.items() if use in names)


def _decisions(axes: Any, results: Sequence[PolicyResult]) -> None:
    parts = {
        "keep": np.array([r.kept for r in results]) * 100,
        "replace": np.array([r.replaced for r in results]) * 100,
        "skip": np.array([r.skipped for r in results]) * 100,
    }
    _stacked(axes, [r.policy for r in results], parts)
    axes.set_xlabel("share of slots / %")
    axes.set_xlim(0, 100)


def _latency(axes: Any, results: Sequence[PolicyResult]) -> None:
    parts = {
        "airtime": np.array([r.airtime_s_per_token for r in results]) * 1e3,
        "helper compute": np.array([r.latency_s_per_token - r.airtime_s_per_token for r in results])
        * 1e3,
    }
    _stacked(axes, [r.policy for r in results], parts)
    axes.set_xlabel("latency per token, virtual clock / ms")


def _trade_off(axes: Any, results: Sequence[PolicyResult], *, metric: str) -> None:
    for index, result in enumerate(results):
        if metric not in result.metrics:
            continue
        value, error = result.metrics[metric]
        axes.errorbar(
            result.energy_j_per_token * 1e9,
            value,
            yerr=error,
            fmt="o",
            capsize=3,
            color=COLOURS[index % len(COLOURS)],
            label=in_lines(result.policy),
        )
    axes.set_xlabel("energy of both directions per token / nJ")
    axes.set_ylabel(metric)
    axes.set_xlim(left=0)
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0.0, 1.0))


def _links(axes: Any, results: Sequence[PolicyResult]) -> None:
    """Draw the channel gains of every helper's bursts under the first policy."""
    gains = results[0].gains_by_agent
    names = list(gains)
    data = [10 * np.log10(np.asarray(gains[name])) for name in names]
    if any(len(values) for values in data):
        axes.boxplot(data, showfliers=False, medianprops={"color": COLOURS[3]})
        axes.set_xticks(np.arange(1, len(names) + 1), names, rotation=30, ha="right")
    axes.set_ylabel("channel gain of used links / dB")
