"""Computes a certificate within the limits of `Effort`: dual steps, then cutting planes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siftmoe.coordinator.policies.certificates.dual import Certificate, TokenOracle, ascend

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from siftmoe.coordinator.policies.loads.effort import Effort
    from siftmoe.coordinator.policies.loads.model import LoadModel

    FloatArray = NDArray[np.float64]


def certify(
    tokens: TokenOracle,
    model: LoadModel,
    start: FloatArray,
    *,
    scale: FloatArray,
    upper: float,
    effort: Effort,
) -> Certificate:
    """Best bound found; arguments as for ``dual.ascend``, limits from ``effort``."""
    certificate = ascend(
        tokens,
        model,
        start,
        scale=scale,
        upper=upper,
        steps=effort.steps,
        tolerance=effort.tolerance,
    )
    return tighten_if_asked(tokens, model, certificate, scale=scale, upper=upper, effort=effort)


def tighten_if_asked(
    tokens: TokenOracle,
    model: LoadModel,
    certificate: Certificate,
    *,
    scale: FloatArray,
    upper: float,
    effort: Effort,
) -> Certificate:
    """Add ``effort.cuts`` rounds of cutting planes, unless the gap is closed already."""
    if effort.cuts == 0 or upper <= 0.0 or certificate.gap(upper) <= effort.tolerance:
        return certificate
    from siftmoe.coordinator.policies.certificates.cutting import (
        tighten,  # scipy is for proofs only
    )

    return tighten(
        tokens,
        model,
        certificate,
        scale=scale,
        upper=upper,
        rounds=effort.cuts,
        tolerance=effort.tolerance,
    )
