"""Path loss: mean gain of a link over distance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

SPEED_OF_LIGHT_M_PER_S = 299_792_458.0


def path_gain(
    *,
    distance_m: ArrayLike,
    carrier_hz: float,
    exponent: float = 3.0,
    reference_m: float = 1.0,
) -> FloatArray:
    r"""Mean power gain by the log-distance law.

    .. math:: g(d) = \left(\frac{c}{4 \pi f d_0}\right)^2 \left(\frac{d_0}{d}\right)^{n}

    Parameters
    ----------
    distance_m : (...), m
        Distance :math:`d`, at least ``reference_m``: the law does not hold below it.
    carrier_hz : float, Hz
        Carrier :math:`f`.
    exponent : float
        Path loss exponent :math:`n`; 2 is free space.
    reference_m : float, m
        Distance :math:`d_0` up to which free space is assumed.

    Returns
    -------
    (...) float64, linear

    Raises
    ------
    ValueError
        If a distance is below the reference, or carrier, exponent or reference is not positive.
    """
    distance = np.asarray(distance_m, dtype=np.float64)
    if not (carrier_hz > 0.0 and exponent > 0.0 and reference_m > 0.0):
        raise ValueError(
            "path gain: carrier_hz, exponent and reference_m must be positive, "
            f"got {carrier_hz}, {exponent}, {reference_m}"
        )
    if not np.all(distance >= reference_m):
        raise ValueError(
            f"path gain: distances must be at least {reference_m} m, got {distance_m!r}"
        )
    reference = (SPEED_OF_LIGHT_M_PER_S / (4.0 * math.pi * carrier_hz * reference_m)) ** 2
    return np.asarray(reference * (reference_m / distance) ** exponent)
