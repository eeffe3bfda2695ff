"""Draws the similarity matrices of a profile."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from siftmoe.models.similarity.profile import Profile

    FloatArray = NDArray[np.float64]

FORMATS = (".svg", ".png", ".pdf")

_STYLE: dict[str, Any] = {"font.size": 8.0, "svg.hashsalt": "siftmoe"}
_MOST_COLUMNS = 8


def check_format(path: Path) -> None:
    """Raise ValueError if a file name does not end in a known format."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{str(path)!r} ends in none of {', '.join(FORMATS)}")


def draw_profile(profile: Profile, path: Path) -> None:
    """Draw the cosine and the deviation of every pair of experts, layer by layer.

    Deviations are shown relative to skipping, :math:`F_{ij} / F_{i0}`: below 1 (blue) expert j is
    a better stand-in for i than none.

    Raises
    ------
    ValueError
        As `check_format`.
    """
    check_format(path)
    columns = min(profile.num_layers, _MOST_COLUMNS)
    bands = math.ceil(profile.num_layers / columns)
    deviation = profile.deviation.value
    relative = deviation[:, :, :-1] / deviation[:, :, -1:]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(1.7 * columns + 1.2, 3.9 * bands), layout="constrained")
        axes = figure.subplots(2 * bands, columns, squeeze=False)
        _draw_kind(
            figure, axes[0::2], profile.cosine.value, label="cosine", cmap="viridis", norm=None
        )
        norm = TwoSlopeNorm(vmin=0.5, vcenter=1.0, vmax=1.5)
        label = "$F_{ij}$ / $F_{i0}$ (skip)"
        _draw_kind(figure, axes[1::2], relative, label=label, cmap="RdBu_r", norm=norm)
        figure.suptitle(_title(profile))
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
        figure.savefig(path, metadata=metadata, dpi=150)


def _draw_kind(
    figure: Figure, axes: Any, matrices: FloatArray, *, label: str, cmap: str, norm: Any
) -> None:
    """Draw one matrix per layer into a grid of axes; the diagonal stays grey."""
    off_diagonal = ~np.eye(matrices.shape[1], dtype=bool)
    shown = np.where(off_diagonal, matrices, np.nan)
    limits = {}
    if norm is None:
        known = shown[np.isfinite(shown)]
        limits = {"vmin": float(known.min()), "vmax": float(known.max())} if known.size else {}
    image = None
    for layer, place in enumerate(axes.flat):
        if layer >= len(matrices):
            place.set_axis_off()
            continue
        image = place.imshow(shown[layer], cmap=cmap, norm=norm, **limits)
        place.set_title(f"layer {layer}")
        place.tick_params(length=0)
        place.set_facecolor("0.85")  # for the diagonal, and for pairs that were not measured
        if layer % axes.shape[1] == 0:
            place.set_ylabel("routed to expert")
        place.set_xlabel("served by expert")
    if image is not None:
        extend = "neither" if norm is None else "both"
        figure.colorbar(image, ax=axes, label=label, shrink=0.8, extend=extend)


def _title(profile: Profile) -> str:
    source = profile.calibration
    return f"Similarity of experts over {source.num_tokens} tokens of {source.text_name}"
