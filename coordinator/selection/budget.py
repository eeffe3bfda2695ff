r"""Budgets of the layers, divided from a tolerance at the model's end or given directly.

A deviation :math:`\delta_l` of layer l's output reaches the model's last hidden state amplified by
:math:`A_l`, so

.. math:: \|\Delta h_L\| \le \sum_l A_l \delta_l, \qquad A_l = \prod_{m > l} a_m, \qquad
          \epsilon_l = w_l \Delta / A_l, \quad \sum_l w_l = 1

keeps the total within :math:`\Delta` however the shares :math:`w_l` are chosen. SiftMoE (arXiv
2603.23888) states such a bound as its Theorem 1; this form is our own. Routing is discontinuous:
measured amplifications are empirical factors, and a token whose later routing changes is outside
the bound (docs/explanation/theory.md, section 0).

The price form needs no division: one exchange rate :math:`\lambda`, energy per nat of predicted
loss, holds for all layers, because deviations are converted to nats by the layer's sensitivity
(section 8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.selection.problem import Budget, BudgetKind

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBudgets:
    """The budget of every layer.

    Parameters
    ----------
    kind : BudgetKind
    values : tuple of float
        One per layer, in the units of ``Budget.value``.
    """

    kind: BudgetKind
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("layer budgets: need at least one layer")
        for layer, value in enumerate(self.values):
            if not (np.isfinite(value) and value >= 0.0):
                raise ValueError(
                    f"layer budgets: layer {layer} has the budget {value}; it must be finite "
                    f"and not negative"
                )

    def budget(self, layer: int) -> Budget:
        """Budget of one layer.

        Raises
        ------
        IndexError
            If there is no such layer.
        """
        if not 0 <= layer < len(self.values):
            raise IndexError(f"layer {layer} is not in 0..{len(self.values) - 1}")
        return Budget(kind=self.kind, value=self.values[layer])

    @classmethod
    def same(cls, value: float, *, num_layers: int, kind: BudgetKind) -> LayerBudgets:
        """Give every layer the same budget: a tolerance per layer, or a price."""
        return cls(kind=kind, values=(float(value),) * num_layers)

    @classmethod
    def from_final_tolerance(
        cls,
        tolerance: float,
        *,
        amplification: ArrayLike,
        shares: ArrayLike | None = None,
        kind: BudgetKind = BudgetKind.PER_TOKEN,
    ) -> LayerBudgets:
        """Divide a tolerance of the final hidden state among the layers.

        Parameters
        ----------
        tolerance : float
            Largest deviation of the last hidden state.
        amplification : (L,) float64
            Factor from a layer's deviation to the final one, see `cumulative_amplification`.
        shares : (L,) float64 or None
            Share of the tolerance of each layer; equal by default.
        kind : BudgetKind
            ``PER_TOKEN`` or ``AVERAGE``.

        Raises
        ------
        ValueError
            If the kind is a price, an amplification is not positive, or the shares are negative
            or sum to more than 1.
        """
        factor = np.asarray(amplification, dtype=np.float64)
        if kind is BudgetKind.PRICE:
            raise ValueError("a tolerance is a bound, not a price; use LayerBudgets.same")
        if factor.ndim != 1 or not np.all(np.isfinite(factor) & (factor > 0.0)):
            raise ValueError(f"amplification must hold one positive factor per layer, got {factor}")
        if shares is None:
            share = np.full(len(factor), 1.0 / len(factor))
        else:
            share = np.asarray(shares, dtype=np.float64)
        if share.shape != factor.shape or np.any(share < 0.0) or share.sum() > 1.0 + 1e-9:
            raise ValueError(
                f"shares must be {len(factor)} numbers that are not negative and sum to at most "
                f"1, got {share}"
            )
        return cls(kind=kind, values=tuple(float(v) for v in share * tolerance / factor))


def cumulative_amplification(block: ArrayLike) -> FloatArray:
    r"""Amplification from each layer to the end, of factors per block.

    .. math:: A_l = \prod_{m > l} a_m

    Parameters
    ----------
    block : (L,) float64
        :math:`a_m`, amplification by block m of a deviation of its input.

    Returns
    -------
    (L,) float64
        The last layer's is 1.
    """
    factors = np.asarray(block, dtype=np.float64)
    if factors.ndim != 1 or not np.all(factors > 0.0):
        raise ValueError(f"block amplifications must be positive, one per layer, got {factors}")
    behind = np.append(factors[1:], 1.0)
    product: FloatArray = np.cumprod(behind[::-1])[::-1].copy()
    return product


def equal_budget_shares(amplification: ArrayLike) -> FloatArray:
    r"""Shares that give all layers the same budget, :math:`w_l = A_l / \sum_m A_m`."""
    factor = np.asarray(amplification, dtype=np.float64)
    shares: FloatArray = factor / factor.sum()
    return shares


def final_deviation_bound(deviation: ArrayLike, *, amplification: ArrayLike) -> FloatArray:
    r"""Bound on the final deviation of every token.

    .. math:: \sum_l A_l \delta_{t,l}

    Parameters
    ----------
    deviation : (..., L) float64
        Deviation of each layer, for example the plans' ``deviation``.
    amplification : (L,) float64

    Returns
    -------
    (...) float64
    """
    bound: FloatArray = np.asarray(deviation, dtype=np.float64) @ np.asarray(amplification)
    return bound


def deviation_in_nats(squared_deviation: ArrayLike, *, sensitivity: float) -> FloatArray:
    r"""Loss that a layer's squared deviations are expected to cost.

    .. math:: q_{ij} = \tfrac{1}{2} a_l\, \mathbb E\|y_i - c_{ij} y_j\|^2

    With ``weight_power`` 2 and this table as a problem's deviation, a price is in joule per nat
    and means the same in every layer.

    Parameters
    ----------
    squared_deviation : (E, E+1) float64
    sensitivity : float
        :math:`a_l = \mathrm{tr} F_l / d`, mean Fisher information of the layer's output.

    Returns
    -------
    (E, E+1) float64, nat
    """
    if not sensitivity >= 0.0:
        raise ValueError(f"sensitivity must not be negative, got {sensitivity}")
    nats: FloatArray = 0.5 * sensitivity * np.asarray(squared_deviation, dtype=np.float64)
    return nats
