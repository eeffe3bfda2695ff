"""Figures of a bundle's similarity profile: per layer, and all arrays as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from siftmoe.models.similarity.quantities import DIMENSIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.models.similarity.profile import Profile
    from siftmoe.models.similarity.quantities import Estimate

#: Estimates of a profile with one value per layer.
PER_LAYER = (
    "output_norm",
    "sensitivity",
    "response",
    "amplification_prefill",
    "amplification_decode",
)


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
                **{name: float(getattr(profile, name).value[layer]) for name in PER_LAYER},
            }
        )
    return rows


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if values.size else float("nan")


def profile_document(profile: Profile, figure: str | None) -> dict[str, Any]:
    """Return every array of a profile as plain data for JSON; NaN becomes null."""
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
    """Replace NaN, which JSON does not have, by None."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if value != value else value
