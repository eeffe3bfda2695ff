"""Tables of a layer: deviations, scales and the budget, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.models.vectors.packing import FLOAT_WIDTHS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.selection.problem import Budget

    FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class WidthTables:
    """Tables of a layer's experts for several widths of vectors.

    Parameters
    ----------
    width : tuple of int, bit
        Of requests, ascending, B of them.
    deviation, scale : (B, E, E+1) float64
        Of vectors of each width and exact answers; a wider one never deviates more.
    reply_width : tuple of int, bit
        Of answers, ascending, V of them.
    reply_noise : (V,) float64
        As ``Replies.noise``.
    fitted : bool
        As of ``Replies``.
    """

    width: tuple[int, ...]
    deviation: FloatArray
    scale: FloatArray
    reply_width: tuple[int, ...]
    reply_noise: FloatArray
    fitted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTables:
    """Tables of one layer's experts.

    Parameters
    ----------
    deviation : (E, E+1) float64
        NaN where it is not known.
    scale : (E, E+1) float64
    budget : Budget
    weight_power : int
    sensitivity : float or None
        Where deviations are nats, twice the nats per squared norm of the output's change.
    width : int, bit
        Of vectors to helpers; 0 where the policy chooses one of the widths.
    narrow : WidthTables or None
        Tables of the widths to choose from; ``deviation`` and ``scale`` then hold for exact
        vectors.
    """

    deviation: FloatArray
    scale: FloatArray
    budget: Budget
    weight_power: int = 1
    sensitivity: float | None = None
    width: int = 16
    narrow: WidthTables | None = None

    def usual_norm(self) -> FloatArray:
        r"""Mean norm of each expert's output, (E,); NaN where it is not known.

        It is the deviation of a skip: :math:`F_{i0}` itself, or :math:`\sqrt{2 q_{i0} / a_l}`
        where deviations are nats.
        """
        skip: FloatArray = self.deviation[:, -1]
        if self.weight_power == 1:
            return skip
        return np.sqrt(2.0 * skip / self.sensitivity) if self.sensitivity else skip * np.nan


def unknown_tables(
    num_layers: int, num_experts: int, *, budget: Budget, width: int = 16
) -> list[LayerTables]:
    """Tables of a bundle without a profile: keeping costs nothing, all else is unknown.

    Policies that use no deviations (Top-K, Top-1) run on them; their plans' deviation is NaN
    wherever a slot is not kept, or its vector is quantised.
    """
    deviation = np.full((num_experts, num_experts + 1), np.nan)
    if width in FLOAT_WIDTHS:
        deviation[np.diag_indices(num_experts)] = 0.0
    scale = np.ones_like(deviation)
    table = LayerTables(deviation=deviation, scale=scale, budget=budget, width=width)
    return [table] * num_layers
