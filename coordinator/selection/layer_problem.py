"""States one layer's selection problem from its routing, its tables and the links' prices."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.selection.precision import Precision, Replies
from siftmoe.coordinator.selection.problem import NOBODY, SelectionProblem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from siftmoe.coordinator.energy.pricing import Pricing
    from siftmoe.coordinator.selection.problem import SelectionPlan
    from siftmoe.coordinator.selection.tables import LayerTables

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]


def layer_problem(
    tables: Sequence[LayerTables],
    layer: int,
    *,
    routed_experts: IntArray,
    gate_weights: FloatArray,
    hosts: BoolArray,
    known: BoolArray,
    answers: BoolArray,
    pricing: Pricing,
    router_logits: FloatArray | None = None,
) -> SelectionProblem:
    """State the problem of one layer.

    Parameters
    ----------
    tables : sequence of LayerTables, one per layer
    layer : int
    routed_experts, gate_weights : (T, K)
    hosts : (N, E) bool
        Only of helpers that are reachable now.
    known : (N, B) bool
        Which helper supports which of the air's widths.
    answers : (N, V) bool
        Which helper can answer in which of the air's widths back.
    pricing : Pricing
        Present energy of loads.
    router_logits : (T, E) or None
        Of the model's router.
    """
    table = tables[layer]
    narrow, precision = table.narrow, None
    if narrow is not None:
        precision = Precision(
            width=np.array(narrow.width),
            deviation=narrow.deviation,
            scale=narrow.scale,
            known=known,
            units=pricing.units,
            pooled=pricing.pooled,
            replies=Replies(
                width=np.array(narrow.reply_width),
                noise=narrow.reply_noise,
                known=answers,
                units=pricing.reply_units,
                fitted=narrow.fitted,
            ),
            rounded=pricing.rounded,
            joint=pricing.joint,
        )
    return SelectionProblem(
        routed_experts=routed_experts,
        gate_weights=gate_weights,
        hosts=hosts,
        local=np.zeros(hosts.shape[1], dtype=bool),
        deviation=table.deviation,
        scale=table.scale,
        energy=pricing.energy_j,
        budget=table.budget,
        weight_power=table.weight_power,
        width=table.width,
        precision=precision,
        router_logits=router_logits,
        medium=pricing.medium,
    )


def fill_empty_slots(
    routed_experts: IntArray, gate_weights: FloatArray, *, num_experts: int
) -> tuple[IntArray, FloatArray, BoolArray]:
    """Give slots that the router left empty a weightless copy of the token's own expert.

    A policy then gets full rows. Its decision for such a slot costs no deviation and, given the
    copied slot, no transmission; `leave_empty` removes it.

    Parameters
    ----------
    routed_experts, gate_weights : (T, K)
        ``num_experts`` marks an empty slot; every token has at least one that is not.
    num_experts : int

    Returns
    -------
    routed_experts, gate_weights, empty : (T, K)
    """
    empty = routed_experts >= num_experts
    own = np.take_along_axis(routed_experts, empty.argmin(axis=1)[:, None], axis=1)  # [T, 1]
    return np.where(empty, own, routed_experts), np.where(empty, 0.0, gate_weights), empty


def leave_empty(plan: SelectionPlan, empty: BoolArray, *, num_experts: int) -> SelectionPlan:
    """Skip the slots that `fill_empty_slots` filled."""
    if not empty.any():
        return plan
    return replace(
        plan,
        helper=np.where(empty, NOBODY, plan.helper),
        expert=np.where(empty, num_experts, plan.expert),
        weight=np.where(empty, 0.0, plan.weight),
        width=np.where(empty, 0, plan.width),
        reply_width=None if plan.reply_width is None else np.where(empty, 0, plan.reply_width),
    )
