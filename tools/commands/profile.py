"""Show how alike a bundle's experts are: the profile that `siftmoe prepare --calibration` measured.

Prints a line per layer and, of small models, the matrix of cosines between the experts' outputs;
draws all matrices into a file. docs/profile.md tells what each figure is.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from numpy.typing import NDArray

    from siftmoe.models.similarity.profile import Profile
    from siftmoe.models.similarity.quantities import Estimate

SUMMARY = "show how alike a bundle's experts are"

#: Larger matrices are left to the figure.
_MOST_EXPERTS = 16
_MOST_LAYERS = 8


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    example = "example: siftmoe profile show upcycled --out similarity.svg"
    parser.epilog = example
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help=SUMMARY, epilog=example)
    show.add_argument("bundle", metavar="BUNDLE", help="folder of a bundle, upcycled or scratch")
    show.add_argument("--out", metavar="FIGURE", help="draw the matrices: .svg, .png or .pdf")
    show.add_argument("--json", action="store_true", help="print every array as JSON")


def run(args: argparse.Namespace) -> int:
    """Show the profile."""
    from pathlib import Path

    from siftmoe.models.similarity.file import read_profile
    from siftmoe.tools.bundles import open_with_progress

    if args.out is not None:
        from siftmoe.tools.plotting.profile import check_format, draw_profile

        check_format(Path(args.out))  # before a shipped model is prepared for a minute
    bundle = open_with_progress(args.bundle)
    profile = read_profile(bundle.manifest)
    if args.out is not None:
        draw_profile(profile, Path(args.out))
    if args.json:
        print(json.dumps(_document(profile, args.out)))
        return 0
    _print(profile, title=str(bundle.root))
    if args.out is not None:
        print(f"drawn: {args.out}")
    return 0


def layer_summary(profile: Profile) -> list[dict[str, float]]:
    """Figures of each layer over its pairs of different experts.

    Returns
    -------
    list of dict
        ``cosine`` mean; ``replaceable`` share of pairs in which a stand-in deviates less than
        skipping; ``least_used`` and ``most_used`` share of all routed slots; ``output_norm``,
        ``sensitivity``, ``response``, ``amplification_prefill``, ``amplification_decode``. NaN
        where nothing was measured.
    """
    import numpy as np

    pairs = ~np.eye(profile.num_experts, dtype=bool)
    rows = []
    for layer in range(profile.num_layers):
        deviation = profile.deviation.value[layer]
        known = pairs & np.isfinite(deviation[:, :-1])
        better = deviation[:, :-1] < deviation[:, -1:]
        share = profile.counts[layer] / max(1, profile.counts[layer].sum())
        rows.append(
            {
                "cosine": _mean(profile.cosine.value[layer][known]),
                "replaceable": _mean(better[known]),
                "least_used": float(share.min()),
                "most_used": float(share.max()),
                **{name: float(getattr(profile, name).value[layer]) for name in _PER_LAYER},
            }
        )
    return rows


_PER_LAYER = (
    "output_norm",
    "sensitivity",
    "response",
    "amplification_prefill",
    "amplification_decode",
)


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if values.size else float("nan")


def _print(profile: Profile, *, title: str) -> None:
    from siftmoe.tools.console import stdout_console, table

    source = profile.calibration
    print(
        f"{title}: {profile.num_layers} layers of {profile.num_experts} experts, measured on "
        f"{source.num_tokens} tokens of {source.text_name}, seed {source.seed}"
    )
    header = (
        *("layer", "cosine", "replaceable", "used", "output norm", "sensitivity", "response"),
        *("amplified, prefill", "decode"),
    )
    rows = []
    for layer, figures in enumerate(layer_summary(profile)):
        measured = [_figure(getattr(profile, name), layer) for name in _PER_LAYER]
        rows.append(
            (
                str(layer),
                f"{figures['cosine']:.2f}",
                f"{figures['replaceable']:.0%}",
                f"{figures['least_used']:.1%} to {figures['most_used']:.1%}",
                *measured,
            )
        )
    console = stdout_console()
    console.print(table(header, rows))
    if profile.num_experts <= _MOST_EXPERTS and profile.num_layers <= _MOST_LAYERS:
        for layer in range(profile.num_layers):
            console.print(_matrix(profile, layer))
    else:
        print("too many experts for a terminal: draw the matrices with --out FIGURE.svg")


def _figure(estimate: Estimate, layer: int) -> str:
    value, error = float(estimate.value[layer]), float(estimate.error[layer])
    return "not measured" if value != value else f"{value:.3g} ± {error:.1g}"


def _matrix(profile: Profile, layer: int) -> Any:
    """Cosines of a layer in percent, shaded; green figures are stand-ins better than none."""
    from rich.text import Text

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


def _document(profile: Profile, figure: str | None) -> dict[str, Any]:
    import msgspec

    from siftmoe.models.similarity.quantities import DIMENSIONS

    arrays = {}
    for name in DIMENSIONS:
        estimate: Estimate = getattr(profile, name)
        arrays[name] = {
            "value": _plain(estimate.value.tolist()),
            "standard_error": _plain(estimate.error.tolist()),
        }
    return {
        "calibration": msgspec.to_builtins(profile.calibration),
        "layers": [
            {name: _plain(value) for name, value in row.items()} for row in layer_summary(profile)
        ],
        "counts": profile.counts.tolist(),
        **arrays,
        "figure": figure,
    }


def _plain(value: Any) -> Any:
    """Turn NaN, which JSON does not have, into null."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if value != value else value
