"""From one layer's routing to its selection problem, with what the bundle's profile knows of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.budget import LayerBudgets
from siftmoe.coordinator.selection import NOBODY, Budget, BudgetKind, SelectionProblem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from siftmoe.coordinator.selection import SelectionPlan
    from siftmoe.models.similarity import Profile

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
    sensitivity : float or None
        Where deviations are nats, twice the nats per squared norm of the output's change.
    """

    deviation: FloatArray
    scale: FloatArray
    budget: Budget
    weight_power: int = 1
    sensitivity: float | None = None


def unknown_tables(num_layers: int, num_experts: int, *, budget: Budget) -> list[LayerTables]:
    """Tables of a bundle without a profile: keeping costs nothing, all else is unknown.

    Policies that never weigh deviations (Top-K, Top-1) run on them; their plans' deviation is NaN
    wherever a slot is not kept.
    """
    deviation = np.full((num_experts, num_experts + 1), np.nan)
    deviation[np.diag_indices(num_experts)] = 0.0
    scale = np.ones_like(deviation)
    return [LayerTables(deviation=deviation, scale=scale, budget=budget)] * num_layers


def paper_tables(profile: Profile, *, tolerance: float, rescale: bool = False) -> list[LayerTables]:
    r"""Tables of the linear bound with a cap per token and layer.

    .. math:: \sum_i g_i F_{i,\varphi(i)} \le \epsilon_l = \eta\,\mathbb E\|y_l\|

    Parameters
    ----------
    profile : Profile
    tolerance : float
        :math:`\eta`, deviation that a layer may add to a token relative to the mean norm of the
        layer's output.
    rescale : bool
        Scale stand-ins by their least-squares factor, and use the deviation that remains.

    Raises
    ------
    ValueError
        If the tolerance is negative or not finite.

    Notes
    -----
    The deviation is SiftMoE's (arXiv 2603.23888); that the tolerance is relative to the layer's
    norm is our reading, and the rescaling our own (docs/theory.md, sections 0 and 6).
    """
    budgets = LayerBudgets(
        kind=BudgetKind.PER_TOKEN,
        values=tuple(float(tolerance * norm) for norm in profile.output_norm.value),
    )
    return _linear_tables(profile, budgets, rescale=rescale)


def amplified_tables(
    profile: Profile,
    *,
    final_tolerance: float,
    rescale: bool = False,
    prefill: bool = False,
) -> list[LayerTables]:
    r"""Tables of the linear bound whose caps keep the model's last hidden state within a tolerance.

    .. math:: \epsilon_l = \frac{\eta\,\mathbb E\|h_L\|}{L A_l}

    Parameters
    ----------
    profile : Profile
    final_tolerance : float
        :math:`\eta`, deviation of the last hidden state relative to its mean norm.
    rescale : bool
        As `paper_tables`.
    prefill : bool
        Use the amplification :math:`A_l` measured with every token of a prefix disturbed instead
        of one token behind an undisturbed one.

    Raises
    ------
    ProfileMissing
        If the profile has no amplification, for one layer or all.
    ValueError
        If the tolerance is negative or not finite.

    Notes
    -----
    The form of SiftMoE's Theorem 1 as `siftmoe.coordinator.budget` has it, with equal shares and
    measured, empirical amplifications (docs/theory.md, section 0).
    """
    amplification = profile.amplification(prefill=prefill).value
    budgets = LayerBudgets.from_final_tolerance(
        final_tolerance * float(profile.final_norm.value), amplification=amplification
    )
    return _linear_tables(profile, budgets, rescale=rescale)


def price_tables(
    profile: Profile, *, price_j_per_nat: float, rescale: bool = True, measured: bool = False
) -> list[LayerTables]:
    r"""Tables of the price rule: energy against the loss that squared deviations cost.

    .. math:: \min \sum_n e_n(q_n) + \lambda \sum_{t,i} g_{t,i}^2\, q_{i,\varphi(i)}, \qquad
        q_{ij} = \tfrac12 a_l \frac{\mathbb E[w^2\|y_i - c_{ij}y_j\|^2]}{\mathbb E[w^2]}

    Parameters
    ----------
    profile : Profile
    price_j_per_nat : float, J
        :math:`\lambda`, the energy that one nat of loss is worth, the same in all layers.
    rescale : bool
        Scale stand-ins by c; without it c = 1.
    measured : bool
        Take for :math:`a_l` the response to deviations of realistic size instead of the Fisher
        sensitivity, see `Profile.price`.

    Raises
    ------
    ProfileMissing
        If the profile has no sensitivity.
    ValueError
        If the price is negative or not finite.

    Notes
    -----
    This project's own derivation (docs/theory.md, section 8).
    """
    budget = Budget(kind=BudgetKind.PRICE, value=price_j_per_nat)
    scale = profile.price_scale.value if rescale else np.ones_like(profile.price_scale.value)
    nats = profile.price(rescale=rescale, measured=measured).value
    sensitivity = (profile.response if measured else profile.sensitivity).value
    return [
        LayerTables(
            deviation=_known(table),
            scale=_known_scale(factor),
            budget=budget,
            weight_power=2,
            sensitivity=float(nats_per_square),
        )
        for table, factor, nats_per_square in zip(nats, scale, sensitivity, strict=True)
    ]


def _linear_tables(profile: Profile, budgets: LayerBudgets, *, rescale: bool) -> list[LayerTables]:
    deviation = profile.scaled_deviation.value if rescale else profile.deviation.value
    scale = profile.scale.value if rescale else np.ones_like(deviation)
    return [
        LayerTables(
            deviation=_known(deviation[layer]),
            scale=_known_scale(scale[layer]),
            budget=budgets.budget(layer),
        )
        for layer in range(profile.num_layers)
    ]


def _known(deviation: FloatArray) -> FloatArray:
    """Give experts that no calibration token was routed to the layer's largest deviation.

    The diagonal stays 0: keeping is exact. The policies need finite figures, and nothing better
    is known of such an expert than that it is hardly ever asked for.
    """
    filled = np.where(np.isnan(deviation), np.nanmax(deviation), deviation)
    filled[np.diag_indices(len(filled))] = 0.0
    return filled


def _known_scale(scale: FloatArray) -> FloatArray:
    return np.where(np.isnan(scale), 1.0, scale)


def layer_problem(
    tables: Sequence[LayerTables],
    layer: int,
    *,
    routed_experts: IntArray,
    gate_weights: FloatArray,
    hosts: BoolArray,
    energy: FloatArray,
    width: int = 16,
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
    width : int, bit
        Of an entry of the vectors that travel to helpers.
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
        width=width,
    )


def fill_empty_slots(
    routed_experts: IntArray, gate_weights: FloatArray, *, num_experts: int
) -> tuple[IntArray, FloatArray, BoolArray]:
    """Give slots that the router left empty a weightless copy of the token's own expert.

    A policy then has whole rows, and what it decides for such a slot costs no deviation and,
    beside the slot that it copies, no transmission; `leave_empty` takes it back.

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
    )
