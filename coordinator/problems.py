"""From one layer's routing to its selection problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.selection import Budget, SelectionProblem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTables:
    """What the selection knows of one layer's experts.

    Parameters
    ----------
    deviation : (E, E+1) float64
        NaN where it is not known.
    scale : (E, E+1) float64
    budget : Budget
    weight_power : int
    """

    deviation: FloatArray
    scale: FloatArray
    budget: Budget
    weight_power: int = 1


def unknown_tables(num_layers: int, num_experts: int, *, budget: Budget) -> list[LayerTables]:
    """Tables of a bundle without a profile: keeping costs nothing, all else is unknown.

    Policies that never weigh deviations (Top-K, Top-1) run on them; their plans' deviation is NaN
    wherever a slot is not kept.
    """
    deviation = np.full((num_experts, num_experts + 1), np.nan)
    deviation[np.diag_indices(num_experts)] = 0.0
    scale = np.ones_like(deviation)
    return [LayerTables(deviation=deviation, scale=scale, budget=budget)] * num_layers


def layer_problem(
    tables: Sequence[LayerTables],
    layer: int,
    *,
    routed_experts: IntArray,
    gate_weights: FloatArray,
    hosts: BoolArray,
    energy: FloatArray,
) -> SelectionProblem:
    """State the problem of one layer.

    Parameters
    ----------
    tables : sequence of LayerTables, one per layer
    layer : int
    routed_experts, gate_weights : (T, K)
    hosts : (N, E) bool
        Only of helpers that can be reached now.
    energy : (N, T+1) float64, J
    """
    table = tables[layer]
    return SelectionProblem(
        routed_experts=routed_experts,
        gate_weights=gate_weights,
        hosts=hosts,
        local=np.zeros(hosts.shape[1], dtype=bool),
        deviation=table.deviation,
        scale=table.scale,
        energy=energy,
        budget=table.budget,
        weight_power=table.weight_power,
    )
