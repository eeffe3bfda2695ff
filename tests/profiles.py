"""Profiles of random figures for tests that need one and no model."""

from __future__ import annotations

from typing import Any

import numpy as np

from siftmoe.models.similarity.calibration import Calibration
from siftmoe.models.similarity.profile import Profile
from siftmoe.models.similarity.quantities import DIMENSIONS, SERVING, Estimate
from siftmoe.models.vectors.quantise import WIDTHS

LAYERS, EXPERTS = 3, 4


def calibration(widths: tuple[int, ...] = WIDTHS) -> Calibration:
    """What a profile was measured on: a text that nobody has."""
    return Calibration(
        model_hash="f" * 64,
        text_name="some.txt",
        text_sha256="0" * 64,
        max_tokens=1024,
        window=16,
        seed=0,
        num_tokens=512,
        with_gradients=True,
        widths=widths,
    )


def profile_of(
    seed: int, *, widths: tuple[int, ...] = WIDTHS, never_routed: int | None = None
) -> Profile:
    """Figures between 0.5 and 1.5, exact where vectors are; small ones of answers' rounding."""
    rng = np.random.default_rng(seed)
    sizes = {"L": LAYERS, "W": len(widths), "E": EXPERTS, "X": EXPERTS + 1}
    found: dict[str, Any] = {
        name: Estimate(*rng.uniform(0.5, 1.5, (2, *(sizes[d] for d in dimensions))))
        for name, dimensions in DIMENSIONS.items()
    }
    for name in SERVING:
        exact = 1.0 if name.endswith("scale") else 0.0
        found[name].value[:, range(EXPERTS), range(EXPERTS)] = exact
    # what is skipped is the same at every width, and more than what is left at the best factor
    for name in ("square", "scaled_square"):
        found[name].value[:, :, -1] = 2.0
        found[f"narrow_{name}"].value[..., -1] = 2.0
    # an answer's rounding falls fourfold with each bit, and is never all of it
    found["reply_error"].value[:] *= 0.1 * 4.0 ** (2.0 - np.array(widths))
    if never_routed is not None:
        for name in SERVING:
            found[name].value[:, never_routed] = np.nan
            found[f"narrow_{name}"].value[:, :, never_routed] = np.nan
    counts = np.full((LAYERS, EXPERTS), 9)
    return Profile(
        calibration=calibration(widths),
        counts=counts,
        **{**found, "final_norm": Estimate(np.array(8.0), np.array(0.1))},
    )
