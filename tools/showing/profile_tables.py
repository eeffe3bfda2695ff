"""A profile on the terminal: a table of its layers, and matrices of cosines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from siftmoe.tools.results.similarity import PER_LAYER, layer_summary

if TYPE_CHECKING:
    from siftmoe.models.similarity.profile import Profile
    from siftmoe.models.similarity.quantities import Estimate

#: Header and rows.
Table = tuple[tuple[str, ...], list[tuple[str, ...]]]

_AMPLIFICATIONS = ("amplified, prefill", "amplified, decode")
#: Larger matrices are left to the figure.
_MOST_EXPERTS = 16
_MOST_LAYERS = 8


def fits_terminal(profile: Profile) -> bool:
    """Whether the matrices are small enough for a terminal."""
    return profile.num_experts <= _MOST_EXPERTS and profile.num_layers <= _MOST_LAYERS


def likeness_table(profile: Profile) -> Table:
    """Return how similar and how much used the experts of each layer are."""
    rows: list[tuple[str, ...]] = [
        (
            str(layer),
            f"{figures['cosine']:.2f}",
            f"{figures['replaceable']:.0%}",
            f"{figures['least_used']:.1%} to {figures['most_used']:.1%}",
        )
        for layer, figures in enumerate(layer_summary(profile))
    ]
    return ("layer", "cosine", "replaceable", "used"), rows


def influence_table(profile: Profile) -> Table:
    """Return the influence of each layer's output on the model's."""
    rows = [
        (str(layer), *(_figure(getattr(profile, name), layer) for name in PER_LAYER))
        for layer in range(profile.num_layers)
    ]
    header = ("layer", "output norm", "sensitivity", "response", *_AMPLIFICATIONS)
    return header, rows


def _figure(estimate: Estimate, layer: int) -> str:
    value, error = float(estimate.value[layer]), float(estimate.error[layer])
    return "not measured" if value != value else f"{value:.3g} ± {error:.1g}"


def matrix(profile: Profile, layer: int) -> Text:
    """Cosines of a layer in %, shaded; green: replacing deviates less than skipping."""
    deviation = profile.deviation.value[layer]
    text = Text(f"\nlayer {layer}: cosine in %, row: routed to, column: served by\n")
    for i, row in enumerate(profile.cosine.value[layer]):
        text.append(f"{i:>4} ", style="dim")
        for j, cosine in enumerate(row):
            known = cosine == cosine
            shade = round(40 + 140 * max(0.0, cosine)) if known else 0
            better = i != j and deviation[i, j] < deviation[i, -1]
            style = (
                f"{'bold green' if better else 'white'} on rgb({shade // 3},{shade // 3},{shade})"
            )
            text.append(f"{100 * cosine:4.0f}" if known else "   -", style=style)
        text.append("\n")
    return text
