from __future__ import annotations

import numpy as np
import pytest

from siftmoe.coordinator.selection.budget import (
    LayerBudgets,
    cumulative_amplification,
    deviation_in_nats,
    equal_budget_shares,
    final_deviation_bound,
)
from siftmoe.coordinator.selection.problem import BudgetKind


def test_amplification_is_the_product_of_the_blocks_behind():
    np.testing.assert_allclose(cumulative_amplification([5.0, 2.0, 3.0]), [6.0, 3.0, 1.0])
    np.testing.assert_allclose(cumulative_amplification([7.0]), [1.0])


def test_layers_that_use_up_their_budgets_just_meet_the_tolerance():
    amplification = cumulative_amplification([1.0, 1.3, 0.8, 2.0])
    for shares in (None, [0.1, 0.2, 0.3, 0.4], equal_budget_shares(amplification)):
        budgets = LayerBudgets.from_final_tolerance(0.7, amplification=amplification, shares=shares)
        bound = final_deviation_bound([budgets.values], amplification=amplification)
        np.testing.assert_allclose(bound, [0.7])
        assert budgets.budget(2).kind is BudgetKind.PER_TOKEN
        assert budgets.budget(2).value == budgets.values[2]


def test_a_linear_model_stays_within_the_bound():
    """Deviations within the budgets, pushed through layers of known Lipschitz constants."""
    rng = np.random.default_rng(0)
    layers = [rng.normal(size=(6, 6)) for _ in range(4)]
    constants = [np.linalg.norm(layer, 2) for layer in layers]
    amplification = cumulative_amplification(constants)
    budgets = LayerBudgets.from_final_tolerance(1.0, amplification=amplification)
    worst = 0.0
    for _ in range(200):
        clean = rng.normal(size=6)
        disturbed = clean.copy()
        for layer, allowed in zip(layers, budgets.values, strict=True):
            push = rng.normal(size=6)
            clean, disturbed = layer @ clean, layer @ disturbed
            disturbed = disturbed + allowed * push / np.linalg.norm(push)
        worst = max(worst, float(np.linalg.norm(disturbed - clean)))
    assert 0.05 < worst <= 1.0


def test_equal_budget_shares_give_every_layer_the_same():
    amplification = [4.0, 2.0, 1.0]
    budgets = LayerBudgets.from_final_tolerance(
        1.4, amplification=amplification, shares=equal_budget_shares(amplification)
    )
    np.testing.assert_allclose(budgets.values, 1.4 / 7.0)


def test_the_same_price_for_all_layers():
    budgets = LayerBudgets.same(2e-3, num_layers=3, kind=BudgetKind.PRICE)
    assert [budgets.budget(layer).value for layer in range(3)] == [2e-3] * 3
    assert budgets.budget(0).kind is BudgetKind.PRICE


def test_nats_are_half_the_curvature_times_the_square():
    np.testing.assert_allclose(
        deviation_in_nats([[0.0, 4.0]], sensitivity=0.03), [[0.0, 0.06]], rtol=1e-12
    )


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"amplification": [1.0, 0.0]}, "amplification"),
        ({"amplification": [1.0, 1.0], "shares": [0.8, 0.4]}, "shares"),
        ({"amplification": [1.0, 1.0], "shares": [1.0]}, "shares"),
        ({"amplification": [1.0, 1.0], "shares": [1.5, -0.5]}, "shares"),
        ({"amplification": [1.0], "kind": BudgetKind.PRICE}, "price"),
    ],
)
def test_a_tolerance_refuses(options, match):
    with pytest.raises(ValueError, match=match):
        LayerBudgets.from_final_tolerance(1.0, **options)


def test_bad_budgets_name_the_layer():
    with pytest.raises(ValueError, match=r"layer 1 .*nan"):
        LayerBudgets(kind=BudgetKind.AVERAGE, values=(1.0, float("nan")))
    with pytest.raises(ValueError, match="at least one layer"):
        LayerBudgets.same(1.0, num_layers=0, kind=BudgetKind.AVERAGE)
    with pytest.raises(IndexError, match=r"layer 2 is not in 0..1"):
        LayerBudgets.same(1.0, num_layers=2, kind=BudgetKind.AVERAGE).budget(2)
    with pytest.raises(ValueError, match="sensitivity"):
        deviation_in_nats([1.0], sensitivity=-1.0)
    with pytest.raises(ValueError, match="block"):
        cumulative_amplification([1.0, -1.0])
